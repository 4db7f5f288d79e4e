"""Columns of a result as a data frame."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def data_frame(
    columns: dict[str, np.ndarray],
) -> pd.DataFrame | dict[str, np.ndarray]:
    """Return columns as a pandas DataFrame; as they are if pandas is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> data_frame({"start": np.arange(2), "loss": np.array([0.5, 0.25])})
       start  loss
    0      0  0.50
    1      1  0.25
    """
    if importlib.util.find_spec("pandas") is None:
        return columns
    import pandas as pd

    return pd.DataFrame(columns)
