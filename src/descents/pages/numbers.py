"""Numbers as a page writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from descents.text import decimals, decimals_of, small

if TYPE_CHECKING:
    from descents.runs.train_result import NetworkResult


@dataclass(frozen=True)
class Digits:
    """How many decimals the values of a metric and their means have.

    Attributes
    ----------
    single : int or None
        Decimals of the value of one start; None gives four significant digits.
    mean : int or None
        Decimals of means, of their intervals and differences.

    Examples
    --------
    An accuracy on 49 rows moves in steps of 0.0204. The mean of many starts may have one
    more digit, whatever its standard error:

    >>> form = Digits.of(1 / 49, 0.012, [0.9738, 0.9751])
    >>> form.one(47 / 49), form(0.97448979), form.between([0.9738, 0.9751])
    ('0.96', '0.974', '0.974 to 0.975')
    >>> form(-2e-5, sign=True)
    '-2e-05'
    """

    single: int | None
    mean: int | None

    @classmethod
    def of(
        cls,
        step: float | None,
        spread: float | None,
        interval: Sequence[float | None] | None,
    ) -> Digits:
        """Return the digits that data support.

        Parameters
        ----------
        step : float or None
            The smallest difference that the value of a start can have.
        spread : float or None
            The standard deviation between starts.
        interval : (float or None, float or None) or None
            The 95% interval of the mean.
        """
        single, mean = decimals(None, step), decimals_of(interval, step)
        if single is None:
            # A digit more than that of the standard deviation distinguishes starts.
            single = decimals(spread)
            single = None if single is None else single + 1
        return cls(single, mean)

    def one(self, value: float | None) -> str:
        """Return the value of one start as text."""
        return small(value, self.single)

    def __call__(self, value: float | None, sign: bool = False) -> str:
        """Return a mean, or a difference of means, as text."""
        return small(value, self.mean, sign)

    def between(self, ends: Sequence[float | None] | None, sign: bool = False) -> str:
        """Return an interval as text."""
        if ends is None or ends[0] is None or ends[1] is None:
            return "not known"
        return f"{self(ends[0], sign)} to {self(ends[1], sign)}"


def digits_of(result: NetworkResult) -> Digits:
    """Return the digits of the metric of a run of `descents train`."""
    best = next(s for s in result.settings if s.name == result.best.setting)
    metric = best.metric
    return Digits.of(result.resolution, metric.standard_deviation, metric.interval)


def fixed(value: float | None, form: str) -> str:
    """Return a number in a format, or "not known" for None.

    Examples
    --------
    >>> fixed(0.12345, ".2f"), fixed(None, ".2f")
    ('0.12', 'not known')
    """
    return "not known" if value is None else format(value, form)


def number(value: float | str | None) -> str:
    """Return a number with four significant digits, or seven just below 1.

    Examples
    --------
    >>> number(0.000123456), number(1000), number(0.9), number(None), number("kaiming")
    ('0.0001235', '1000', '0.9', 'not known', 'kaiming')
    """
    if value is None:
        return "not known"
    if isinstance(value, str | int):
        return str(value)
    # Four digits would round 0.9999996 to 1.
    return f"{value:.7g}" if 0.999 < abs(value) < 1 else f"{value:.4g}"


def settings_of(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the options of a run with their values, defaults too.

    Examples
    --------
    >>> settings_of({"seed": 0, "rank": [1, 2], "learning_rate": None, "refine": True})
    [('seed', '0'), ('rank', '1, 2'), ('refine', 'yes')]
    """
    return [
        (name.replace("_", " "), _written(value))
        for name, value in values.items()
        if value is not None
        and value not in ([], {}, (), "")
        and name not in ("formats", "lenient")
    ]


def _written(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_written(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
