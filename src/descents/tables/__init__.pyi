from .blocks import TableOnDisk as TableOnDisk
from .datasets import uci_iris as uci_iris
from .tables import Table as Table
