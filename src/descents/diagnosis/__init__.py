"""Diagnose why a start did not reach the level of the best starts.

`evidence` measures gradients, units and curvature at the end of a start, `hessian`
computes the ends of the spectrum of the Hessian, and `diagnosis` turns them into
verdicts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
