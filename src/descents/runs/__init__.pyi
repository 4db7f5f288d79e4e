from .apply_network import Trained as Trained
from .stored import StoredRun as StoredRun
from .stored import load as load
