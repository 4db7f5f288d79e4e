from .distributed import SharedTable as SharedTable
from .observed import cells as cells
