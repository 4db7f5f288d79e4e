"""The published report, re-run on its data and judged.

`claims` holds the report as data, `experiments` repeats its two halves, `ten_starts`
trains its ten published starts, and `report` judges the claims. `agreement` tests
whether a table of results can be a draw of what produced simulated ones.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
