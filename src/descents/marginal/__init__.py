"""Models of a table with the factors integrated out.

`gaussian` is the marginal likelihood and `em` its EM steps; `features`, `model`
and `tables` fit it to a user's table and judge it by held-out cells. `imputer` is the
estimator, and `draws` and `pooling` are for multiple imputation. `low_rank_ratings` is the
estimator for sparse ratings, with the factors of both rows and columns integrated out
(`both_sides`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
