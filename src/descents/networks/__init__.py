"""Networks from many initial points: problems, fits, estimators.

`network` is the multilayer perceptron and `modules` any torch module; both are
`supervised` problems, and `batches` has the rows that each start is trained on. `fitting`
trains one network, or several `settings` in shared batches, and returns a `fitted`
network. `estimators` are the scikit-learn classes around it, and `sweep` compares settings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
