"""The best known answer, and how far a result is from it.

`references` computes exact minima and lower bounds from singular values, `dual` lower
bounds by convex duality. `gaps` measures the distance of a loss, `subspaces` that of
factors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
