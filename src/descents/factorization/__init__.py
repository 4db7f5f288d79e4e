"""The problem U V^T: starts, and the steps that are its own.

`factorization` is the problem; `alternating` and `guarded` minimize over one factor at
a time. `candidates` descends from several ranks, penalties and folds at once, and
`rescaled` works in one unit for all columns.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
