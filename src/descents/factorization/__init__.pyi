from .alternating import Alternating as Alternating
from .factorization import Factorization as Factorization
