"""Diagnose why a start did not reach the level of the best starts.

`evidence` measures gradients, units and curvature at the end of a start, `hessian`
computes the ends of the spectrum of the Hessian, `verdicts` has the rules that turn this
into verdicts, and `diagnosis` runs starts for longer and applies the rules.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
