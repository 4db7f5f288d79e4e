"""Gradient descent from many starting points at once.

`problem` says what a problem is, `rules` what an update rule is, and `first_order` has
the rules that use gradients alone. `loop` descends, a `chunk` of starts at a time;
`stopping` says when a start stops, and `runs` is the result. `workers` and `pace`
spread chunks over processes and threads, and `graphs` captures steps on a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
