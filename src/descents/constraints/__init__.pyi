from .constraints import Regularizer as Regularizer
from .constraints import regularizers as regularizers
from .sets import Fixed as Fixed
from .sets import Simplex as Simplex
from .sets import Sparse as Sparse
from .sets import UnitNorm as UnitNorm
from .sets import UnitOneSparse as UnitOneSparse
