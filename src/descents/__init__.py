"""Low-rank models and small networks, fitted by gradient descent from many starting points.

Every result is compared with the best known answer. The public names below are imported
when they are first used, so that ``import descents`` is fast and a wrong option on the
command line is reported before torch is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from descents.answers.diagnosis import diagnose as diagnose
    from descents.answers.references import truncated_svd as truncated_svd
    from descents.checks import DescentsError as DescentsError
    from descents.data.blocks import TableOnDisk as TableOnDisk
    from descents.descent.loop import descend as descend
    from descents.descent.runs import Runs as Runs
    from descents.descent.runs import Status as Status
    from descents.descent.steps import LBFGS as LBFGS
    from descents.descent.steps import Adam as Adam
    from descents.descent.steps import AdamW as AdamW
    from descents.descent.steps import GradientDescent as GradientDescent
    from descents.descent.steps import LineDescent as LineDescent
    from descents.descent.steps import Momentum as Momentum
    from descents.descent.stopping import EarlyStopping as EarlyStopping
    from descents.descent.stopping import NoProgress as NoProgress
    from descents.descent.stopping import Stop as Stop
    from descents.estimators.imputer import LowRankImputer as LowRankImputer
    from descents.estimators.networks import MLPStartsClassifier as MLPStartsClassifier
    from descents.estimators.networks import MLPStartsRegressor as MLPStartsRegressor
    from descents.estimators.ratings import LowRankRatings as LowRankRatings
    from descents.estimators.training import train_starts as train_starts
    from descents.estimators.transformer import LowRankModel as LowRankModel
    from descents.marginal.pooling import pool as pool
    from descents.problems.alternating import Alternating as Alternating
    from descents.problems.batches import Folds as Folds
    from descents.problems.batches import HoldOut as HoldOut
    from descents.problems.factorization import Factorization as Factorization
    from descents.problems.network import Network as Network
    from descents.problems.problem import Problem as Problem
    from descents.problems.sets import Fixed as Fixed
    from descents.studies.experiments import gd_factorise_ad as gd_factorise_ad
    from descents.studies.stored import load as load
    from descents.studies.sweep import Study as Study
    from descents.studies.sweep import sweep as sweep

_HOMES = {
    "Adam": "descents.descent.steps",
    "AdamW": "descents.descent.steps",
    "Alternating": "descents.problems.alternating",
    "DescentsError": "descents.checks",
    "EarlyStopping": "descents.descent.stopping",
    "Factorization": "descents.problems.factorization",
    "Fixed": "descents.problems.sets",
    "Folds": "descents.problems.batches",
    "GradientDescent": "descents.descent.steps",
    "HoldOut": "descents.problems.batches",
    "LBFGS": "descents.descent.steps",
    "LineDescent": "descents.descent.steps",
    "LowRankImputer": "descents.estimators.imputer",
    "LowRankModel": "descents.estimators.transformer",
    "LowRankRatings": "descents.estimators.ratings",
    "MLPStartsClassifier": "descents.estimators.networks",
    "MLPStartsRegressor": "descents.estimators.networks",
    "Momentum": "descents.descent.steps",
    "Network": "descents.problems.network",
    "NoProgress": "descents.descent.stopping",
    "Problem": "descents.problems.problem",
    "Runs": "descents.descent.runs",
    "Study": "descents.studies.sweep",
    "Status": "descents.descent.runs",
    "Stop": "descents.descent.stopping",
    "TableOnDisk": "descents.data.blocks",
    "descend": "descents.descent.loop",
    "diagnose": "descents.answers.diagnosis",
    "gd_factorise_ad": "descents.studies.experiments",
    "load": "descents.studies.stored",
    "pool": "descents.marginal.pooling",
    "sweep": "descents.studies.sweep",
    "train_starts": "descents.estimators.training",
    "truncated_svd": "descents.answers.references",
}

__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'descents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
