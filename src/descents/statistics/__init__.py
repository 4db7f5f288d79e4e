"""Statistics of one number for each of many starts, with intervals and tests.

`summaries` describes one setting, `differences`, `simultaneous` and `margins` compare
settings, `effects` estimates which options matter, and `planning` computes how many starts are
needed. The modules use numpy and scipy alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
