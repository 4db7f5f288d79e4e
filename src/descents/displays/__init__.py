"""Displays of results, as scikit-learn has them: made from a result, drawn by `plot`.

`start_losses`, `loadings`, `held_out` and `differences` have a class each. A display
holds the numbers that it draws, so that it can be drawn again with another style.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
