"""Losses of single cells, each written once and differentiated by autograd.

`base` defines the interface. `real` has losses of numbers, `counts` and `divergences`
those of nonnegative numbers, `binary` losses of two values, and `multiclass` and `ordinal`
those of codes of classes and of levels. `custom` takes the user's own, and `named` finds a
loss by its name.
"""

from descents.losses.base import Loss as Loss
from descents.losses.base import bisection as bisection
from descents.losses.base import golden_section as golden_section
from descents.losses.base import slope as slope
from descents.losses.binary import Hinge as Hinge
from descents.losses.binary import Logistic as Logistic
from descents.losses.counts import Poisson as Poisson
from descents.losses.custom import CustomLoss as CustomLoss
from descents.losses.divergences import BetaDivergence as BetaDivergence
from descents.losses.divergences import ItakuraSaito as ItakuraSaito
from descents.losses.divergences import KullbackLeibler as KullbackLeibler
from descents.losses.multiclass import Categorical as Categorical
from descents.losses.multiclass import OneVsAll as OneVsAll
from descents.losses.multiclass import OneVsAllHinge as OneVsAllHinge
from descents.losses.multiclass import cross_entropy as cross_entropy
from descents.losses.named import NAMED as NAMED
from descents.losses.named import get_loss as get_loss
from descents.losses.ordinal import BiggerVsSmaller as BiggerVsSmaller
from descents.losses.ordinal import BiggerVsSmallerHinge as BiggerVsSmallerHinge
from descents.losses.ordinal import Ordinal as Ordinal
from descents.losses.ordinal import OrdinalHinge as OrdinalHinge
from descents.losses.ordinal import Ordistic as Ordistic
from descents.losses.ordinal import Sequential as Sequential
from descents.losses.real import Absolute as Absolute
from descents.losses.real import Huber as Huber
from descents.losses.real import Periodic as Periodic
from descents.losses.real import Quantile as Quantile
from descents.losses.real import Squared as Squared
from descents.losses.real import squared as squared
