"""Low-rank models of tables as scikit-learn estimators.

`model` fits `LowRankModel`, `selection` chooses rank and penalty by held-out cells,
`fitted` predicts cells and new rows, and `prediction_intervals` gives prediction intervals. The
problem that is minimized is that of `descents.factorization`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
