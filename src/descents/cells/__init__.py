"""Which cells of a table are data, and under which loss.

`columns` chooses a loss for each column, `observed` finds the cells that are data, and
`layouts` and `streamed` keep them: complete, with missing cells, sparse, or on disk.
`intake` takes arrays and data frames from callers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
