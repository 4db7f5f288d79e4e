"""Tables of typed columns, and the files that they are read from.

`files` reads text, Parquet and arrays; `tables`, `typed_columns` and `frames` hold columns;
`numerals`, `dates`, `levels`, `orders` and `conventions` define how cells are written and
read. `blocks` reads tables larger than memory, and `datasets` has tables whose answer is
known.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
