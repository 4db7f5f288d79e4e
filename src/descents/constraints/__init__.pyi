from .constraints import Regularizer as Regularizer
from .constraints import regularizers as regularizers
from .sets import Fixed as Fixed
from .sets import OneHot as OneHot
from .sets import Simplex as Simplex
from .sets import Sparse as Sparse
from .unit_norm import UnitNorm as UnitNorm
