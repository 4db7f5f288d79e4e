"""Networks from many initial points: layers, data, batches, estimators.

`network` is the multilayer perceptron and `modules` any torch module; `supervised` has
what they share, and `batches` says which rows each start trains on. `estimators` are
the scikit-learn classes, and `sweep` compares settings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
