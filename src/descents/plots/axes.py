"""Functions that draw arrays on given matplotlib axes, and return what they drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from descents.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

Style = Mapping[str, object]
"""Keyword arguments of the matplotlib function that draws."""

INK, FAINT, RED, BLUE = "#222222", "#9aa0a6", "#c0392b", "#1f5fa8"
STYLE: Mapping[str, str | float | bool] = {
    "axes.edgecolor": FAINT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # small files, whose text has the font of the page
}
LONGEST = 24
"""Longer names are cut at the axis."""
FEWEST_DECADES = 3
"""A logarithmic axis of gaps shows at least this many powers of ten."""


def shown(name: str) -> str:
    r"""Return a name as it stands at an axis: without formulas, and not too long.

    Examples
    --------
    >>> shown("cost ($) of $1"), shown("a name that is longer than an axis has room for")
    ('cost (\\$) of \\$1', 'a name that is longer t…')
    """
    text = visible(str(name)).replace("\n", " ")
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return text.replace("$", r"\$")


def start_gaps(
    ax: Axes, losses: np.ndarray, style: Style, rounding: float = 0.0
) -> Line2D:
    """Draw the loss of each start minus the least one by rank, on a logarithmic axis.

    Starts that reached the least loss, up to rounding, have no logarithm. They stand at
    the lower end of the axis.

    Parameters
    ----------
    ax : Axes
    losses : ndarray of shape (S,)
        Starts without a finite loss are left out.
    style : mapping
        As `Axes.plot` takes it.
    rounding : float
        Gaps up to this one are drawn as 0.
    """
    finite = np.sort(np.asarray(losses, np.float64)[np.isfinite(losses)])
    gaps = finite - finite[:1]
    gaps[gaps <= rounding] = 0.0
    above = gaps[gaps > 0]
    floor = float(above.min()) / 10 if len(above) else 0.0
    drawn = {"marker": "o", "ls": "none", "ms": 3.5, "color": BLUE} | dict(style)
    plot: Callable[..., list[Line2D]] = ax.plot
    (line,) = plot(np.arange(1, len(gaps) + 1), np.maximum(gaps, floor), **drawn)
    if len(above):
        ax.set_yscale("log")
        top = max(float(above.max()) * 2, floor * 10.0**FEWEST_DECADES)
        ax.set_ylim(floor / 1.5, top)
        if floor < above.min() and not gaps.all():
            ax.axhline(floor, color=FAINT, lw=0.8)
            ax.annotate(
                "least loss", (1, floor), xycoords=("axes fraction", "data"),
                ha="right", va="bottom", color=FAINT, fontsize="small",
            )  # fmt: skip
    ax.set(xlabel="starts, by their loss", ylabel="loss minus the least")
    return line


def loadings(
    ax: Axes, components: np.ndarray, names: Sequence[str], style: Style
) -> AxesImage:
    """Draw a heatmap of loadings, a row for each column of the table.

    Parameters
    ----------
    ax : Axes
    components : ndarray of shape (rank, coordinates)
    names : sequence of str
        Of the coordinates.
    style : mapping
        As `Axes.imshow` takes it.
    """
    most = float(np.abs(components).max(initial=0.0)) or 1.0
    drawn = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "aspect": "auto"} | dict(
        style
    )
    imshow: Callable[..., AxesImage] = ax.imshow
    image = imshow(components.T, interpolation="nearest", **drawn)
    ax.set_xticks(range(len(components)), [str(k + 1) for k in range(len(components))])
    if len(names) <= 40:
        ax.set_yticks(range(len(names)), [shown(name) for name in names])
    ax.set(xlabel="component")
    return image


def held_out_losses(
    ax: Axes,
    ranks: Sequence[float] | np.ndarray,
    mean: np.ndarray,
    error: np.ndarray,
    chosen: int,
    style: Style,
) -> ErrorbarContainer:
    """Draw held-out losses with standard errors; that of the best constants is 1.

    Parameters
    ----------
    ax : Axes
    ranks : sequence of float
        The ranks, or the penalties.
    mean, error : ndarray of shape (len(ranks),)
    chosen : int
        The place of the chosen one.
    style : mapping
        As `Axes.errorbar` takes it.
    """
    at, finite = np.asarray(ranks, np.float64), np.isfinite(mean)
    drawn = {"color": BLUE, "fmt": "o-", "ms": 4, "lw": 1, "capsize": 3} | dict(style)
    errorbar: Callable[..., ErrorbarContainer] = ax.errorbar
    bars = errorbar(at[finite], mean[finite], error[finite], **drawn)
    ax.axhline(1.0, color=FAINT, lw=1, ls="--", label="best constants")
    ax.plot(
        at[[chosen]], mean[[chosen]], "o", color=RED, ms=9, mfc="none", label="chosen"
    )
    ax.set_ylabel("held-out loss")
    ax.legend()
    return bars


def differences(
    ax: Axes,
    names: Sequence[str],
    middle: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    style: Style,
) -> ErrorbarContainer:
    """Draw differences with their intervals, one below the other, and a line at zero.

    Parameters
    ----------
    ax : Axes
    names : sequence of str
    middle, low, high : ndarray of shape (len(names),)
    style : mapping
        As `Axes.errorbar` takes it.
    """
    places = np.arange(len(names))
    reach = np.nan_to_num(np.stack([middle - low, high - middle]))
    drawn = {"color": BLUE, "fmt": "o", "ms": 4, "capsize": 3} | dict(style)
    errorbar: Callable[..., ErrorbarContainer] = ax.errorbar
    bars = errorbar(middle, places, xerr=reach, **drawn)
    ax.axvline(0.0, color=FAINT, lw=1)
    ax.set_yticks(places, [shown(name) for name in names])
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    return bars


def sorted_values(
    ax: Axes,
    values: np.ndarray,
    things: str,
    what: str,
    constant: float | None = None,
) -> Line2D:
    """Draw the finite values of some things, sorted, and a line at a constant.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (S,)
    things, what : str
        What has the values, such as starts, and what they are.
    constant : float, optional
    """
    finite = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    (line,) = ax.plot(np.arange(1, len(finite) + 1), finite, "o", ms=3.5, color=BLUE)
    if constant is not None:
        ax.axhline(constant, color=FAINT, lw=1, ls="--")
    ax.set(xlabel=f"{things}, by their {what}", ylabel=what)
    return line
