from .held_out import ColumnScore as ColumnScore
from .held_out import HeldOut as HeldOut
from .imputer import LowRankImputer as LowRankImputer
from .low_rank_ratings import LowRankRatings as LowRankRatings
from .pooling import Pooled as Pooled
from .pooling import pool as pool
from .tables import fit_table as fit_table
