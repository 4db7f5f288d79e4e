from .differences import ComparisonDisplay as ComparisonDisplay
from .held_out import SelectionDisplay as SelectionDisplay
from .loadings import ComponentsDisplay as ComponentsDisplay
from .start_losses import StartsDisplay as StartsDisplay
