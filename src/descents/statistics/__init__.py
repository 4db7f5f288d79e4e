"""What one number for each of many starts says, and how surely.

`summaries` describes one setting, `differences` and `simultaneous` compare settings,
`effects` finds which options matter, and `planning` says how many starts are needed. It
uses numpy and scipy alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
