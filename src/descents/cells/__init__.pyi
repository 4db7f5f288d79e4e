from .distributed import SharedTable as SharedTable
from .observed import cells as cells
from .shared_rows import read_rows as read_rows
