"""The problem of two factors U V^T: its loss, its initial points and its update rules.

`factorization` defines the problem. `alternating` and `guarded` minimize over one factor
at a time. `candidates` fits several ranks, penalties and folds at once, and `rescaled`
divides a table by one unit before the descent.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
