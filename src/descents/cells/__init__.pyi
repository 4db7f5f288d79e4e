from .observed import cells as cells
