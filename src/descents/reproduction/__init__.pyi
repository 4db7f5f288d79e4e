from .agreement import Compatibility as Compatibility
from .agreement import compatibility as compatibility
from .experiments import gd_factorise_ad as gd_factorise_ad
