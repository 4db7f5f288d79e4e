from .diagnosis import diagnose as diagnose
from .diagnosis import reached_by_the_best as reached_by_the_best
from .evidence import Look as Look
from .hessian import curvature as curvature
from .hessian import hessians as hessians
from .hessian import lanczos as lanczos
from .verdicts import Diagnosis as Diagnosis
from .verdicts import Verdict as Verdict
