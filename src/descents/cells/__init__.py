"""Which cells of a table are observed, and under which loss.

`columns` chooses a loss for each column, `observed` finds the observed cells, and
`complete`, `dense`, `sparse` and `streamed` are their layouts: complete, with missing
cells, sparse, or on disk. `distributed` and `shared_rows` are the rows that one of several
processes has. `intake` takes arrays and data frames from callers, `encoding`
and `filling` convert columns to codes and back.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
