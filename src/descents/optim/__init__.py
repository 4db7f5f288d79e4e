"""Gradient descent from many starting points at once.

`problem` defines problems, `rules` the interface of update rules; `first_order` and
`lbfgs` are rules that use gradients alone. `loop` descends, one `chunk` of starts at
a time; `stopping` decides when a start stops, `control` how a fit is run, and
`runs` holds the results. `workers` and `pace` spread chunks over processes and threads,
and `graphs` captures steps on a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
