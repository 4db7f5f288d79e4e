"""One function for each command: read a table, fit, and return what the run stores.

`factorize`, `impute` and `train` fit models, `apply` and `apply_network` use stored
ones on new rows, and `request` turns options into a table and settings. `stored` opens
the runs of all commands again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
