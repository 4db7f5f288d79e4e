"""Sets and penalties on a factor.

`constraints` reads them from names and computes proximal operators; `sets` has the
sets, the nearest points in them, and the best points of quadratics over them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
