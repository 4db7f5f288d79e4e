"""Devices, precisions and processors."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from descents.errors import InvalidValueError, for_caller

if TYPE_CHECKING:
    import numpy as np
    import torch


def processor() -> str:
    """Return which kind of processor this machine has, as far as it says.

    Examples
    --------
    >>> processor() != ""
    True
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "CPU part") and value.strip():
                return f"{platform.machine()} {value.strip()}"
    return platform.processor() or platform.machine() or "not known"


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def torch_device(value: str | torch.device) -> torch.device:
    """Return a torch device that is present on this machine.

    Raises
    ------
    InvalidValueError
        If the name is unknown or the device is absent.

    Examples
    --------
    >>> torch_device("cpu")
    device(type='cpu')
    """
    import torch

    try:
        device = torch.device(value)
        torch.empty(0, device=device).cpu()
    except TypeError:
        raise InvalidValueError(
            f"device is {value!r}; give 'cpu' or the name of another device"
        ) from None
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # If torch does not know the type of device, its message lists all types.
        reason, unknown, _ = str(error).splitlines()[0].partition("Expected one of")
        reason = "torch has no such type of device" if unknown else reason
        raise InvalidValueError(
            f"{for_caller('--device', 'device')} is {str(value)!r}, which is not usable here ({reason}); "
            "give 'cpu' or a device that this machine has"
        ) from None
    return device


def remote(device: torch.device) -> bool:
    """Return whether reading a number from a device waits for all its queued work.

    Examples
    --------
    >>> import torch
    >>> remote(torch.device("cpu"))
    False
    """
    return device.type != "cpu"


@functools.lru_cache(maxsize=4096)
def constant(
    value: float | tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return a number, or several, as a shared tensor, which must not be modified.

    Examples
    --------
    >>> import torch
    >>> constant(0.5, torch.float64, torch.device("cpu"))
    tensor(0.5000, dtype=torch.float64)
    """
    import torch

    with torch.inference_mode(False):  # the tensor outlives the caller's context
        return torch.tensor(value, dtype=dtype, device=device)


def numpy_dtype(dtype: torch.dtype) -> type[np.float32] | type[np.float64]:
    """Return the numpy type of a working precision.

    Examples
    --------
    >>> import torch
    >>> numpy_dtype(torch.float32)
    <class 'numpy.float32'>
    """
    import numpy as np
    import torch

    return np.float32 if dtype == torch.float32 else np.float64


def torch_dtype(dtype: torch.dtype | None, data: np.ndarray) -> torch.dtype:
    """Return the working precision: the requested one, or that of the data.

    Examples
    --------
    >>> import numpy as np
    >>> torch_dtype(None, np.zeros(1, dtype=np.float32))
    torch.float32
    """
    import torch

    if dtype is None:
        import numpy as np

        return torch.float64 if data.dtype == np.float64 else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise InvalidValueError(
            f"dtype is {dtype}; give torch.float32 or torch.float64"
        )
    return dtype
