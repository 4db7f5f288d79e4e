"""Short names of settings, made of the parameters that vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from descents.statistics.effects import same_value


def named(settings: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """Return a short unique name for each setting, made of the parameters that vary.

    Examples
    --------
    >>> named([{"optimizer": "gd", "dropout": 0}, {"optimizer": "adam", "dropout": 0}])
    ('optimizer=gd', 'optimizer=adam')
    """
    every = {name: value for setting in settings for name, value in setting.items()}
    varied = [
        n for n in every if any(not same_value(s.get(n), every[n]) for s in settings)
    ]
    words = [
        ", ".join(
            f"{n}={word_of(v)}" for n, v in setting.items() if n in (varied or every)
        )
        or "as given"
        for setting in settings
    ]
    return _distinct(words)


def _distinct(words: Sequence[str]) -> tuple[str, ...]:
    """Return unique names: repetitions get a number."""
    names: list[str] = []
    for word in words:
        name, number = word, 1
        while name in names:
            number += 1
            name = f"{word} ({number})"
        names.append(name)
    return tuple(names)


def word_of(value: object) -> str:
    """Return a parameter's value as a word; numbers keep all their digits.

    Examples
    --------
    >>> word_of(0.01), word_of(1e-5), word_of(0.01000001), word_of(np.int64(3))
    ('0.01', '1e-05', '0.01000001', '3')
    """
    if isinstance(value, np.floating):
        value = float(str(value)) if value.dtype.itemsize < 8 else float(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return value if isinstance(value, str) else getattr(value, "__name__", repr(value))
