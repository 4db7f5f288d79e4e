"""Losses of single cells, each written once and differentiated by autograd.

`base` defines the interface. `numbers` has losses of numbers, `divergences` those of
nonnegative numbers, and `levels` losses of codes of levels.
"""

from descents.losses.base import Loss as Loss
from descents.losses.base import bisection as bisection
from descents.losses.base import golden_section as golden_section
from descents.losses.base import slope as slope
from descents.losses.divergences import BetaDivergence as BetaDivergence
from descents.losses.divergences import ItakuraSaito as ItakuraSaito
from descents.losses.divergences import KullbackLeibler as KullbackLeibler
from descents.losses.levels import BiggerVsSmaller as BiggerVsSmaller
from descents.losses.levels import BiggerVsSmallerHinge as BiggerVsSmallerHinge
from descents.losses.levels import Categorical as Categorical
from descents.losses.levels import Hinge as Hinge
from descents.losses.levels import Logistic as Logistic
from descents.losses.levels import OneVsAll as OneVsAll
from descents.losses.levels import OneVsAllHinge as OneVsAllHinge
from descents.losses.levels import Ordinal as Ordinal
from descents.losses.levels import OrdinalHinge as OrdinalHinge
from descents.losses.levels import Ordistic as Ordistic
from descents.losses.levels import Sequential as Sequential
from descents.losses.named import NAMED as NAMED
from descents.losses.named import get_loss as get_loss
from descents.losses.numbers import Absolute as Absolute
from descents.losses.numbers import CustomLoss as CustomLoss
from descents.losses.numbers import Huber as Huber
from descents.losses.numbers import Periodic as Periodic
from descents.losses.numbers import Poisson as Poisson
from descents.losses.numbers import Quantile as Quantile
from descents.losses.numbers import Squared as Squared
from descents.losses.numbers import cross_entropy as cross_entropy
from descents.losses.numbers import squared as squared
