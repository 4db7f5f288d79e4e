"""Constraints and penalties on a factor.

`constraints` parses them and computes proximal operators. `sets` and `unit_norm` define
the constraint sets, projections onto them, and the minimization of quadratics over them;
`names` has the names of the sets. `quadratics` and `coordinates` minimize quadratics
without a set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
