"""Small pictures in tables and lists, as SVG.

A page may have hundreds of them. matplotlib would take a tenth of a second for each, so
they are written directly: histograms, predicted against true values, and biplots.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup

from descents.pages.figures import shortened
from descents.pages.numbers import number
from descents.runs.results import Distribution

ARROWS = 16
"""The number of coordinates with an arrow in a biplot."""
NEAR = (70.0, 13.0)
"""Names of arrows that are nearer to each other than this overlap, in pixels."""


def svg(
    parts: Sequence[str], size: tuple[float, float], says: str, kind: str
) -> Markup:
    """Return an SVG element of a size, with its alternative text."""
    wide, high = size
    return Markup(  # noqa: S704 - names are escaped
        f'<svg class="small {kind}" role="img" aria-label="{escape(says)}" '
        f'viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}">'
        f"{''.join(parts)}</svg>"
    )


def _bars(counts: Sequence[int], place: slice, high: float, kind: str) -> list[str]:
    """Return bars of counts, as shares of their sum, side by side."""
    left, right = float(place.start), float(place.stop)
    step = (right - left) / len(counts)
    top = max(counts) or 1
    return [
        f'<rect class="{kind}" x="{left + k * step + 0.05 * step:.1f}" '
        f'y="{high - high * count / top:.1f}" width="{0.9 * step:.1f}" '
        f'height="{high * count / top:.1f}"/>'
        for k, count in enumerate(counts)
        if count
    ]


def says_of(found: Distribution) -> str:
    """Return in words what a histogram shows.

    Examples
    --------
    >>> says_of(Distribution(levels=["a", "b"], observed=[3, 1], filled=[]))
    'most often a (75%), seldom b (25%)'
    """
    total = sum(found.observed)
    if found.levels:
        shares = [count / total for count in found.observed]
        most, least = int(np.argmax(shares)), int(np.argmin(shares))
        text = f"most often {found.levels[most]} ({shares[most]:.0%})"
        if most != least:
            text += f", seldom {found.levels[least]} ({shares[least]:.0%})"
        return text
    if len(found.observed) == 1:
        return f"always {number(found.low)}"
    return f"{number(found.low)} to {number(found.high)}"


def histogram(found: Distribution) -> Markup:
    """Return the histogram of the observed cells of a column, for a row of a table."""
    parts = _bars(found.observed, slice(0, 96), 22, "observed")
    return svg(parts, (96, 22), says_of(found), "spark")


def both_histograms(found: Distribution) -> Markup:
    """Return the histogram of observed cells above that of the filled ones."""
    parts = _bars(found.observed, slice(0, 220), 60, "observed")
    parts += ['<g transform="translate(0 66)">']
    parts += _bars(found.filled, slice(0, 220), 60, "filled")
    parts += ["</g>"]
    low, high = (number(end) for end in (found.low, found.high))
    if found.levels:
        low, high = found.levels[0], found.levels[-1]
    parts += [
        _text(0, 140, shortened(low, 16)),
        _text(220, 140, shortened(high, 16), "end"),
    ]
    says = f"observed cells above, filled cells below; {says_of(found)}"
    return svg(parts, (220, 146), says, "histograms")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _dots(x: np.ndarray, y: np.ndarray, kind: str) -> str:
    """Return points as one path: lines of length 0 with round caps."""
    pieces = [
        f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    return f'<path class="{kind}" d="{"".join(pieces)}"/>'


def scatter(truth: np.ndarray, predicted: np.ndarray, says: str) -> Markup:
    """Return predicted against true values, with the diagonal of a perfect prediction."""
    both = np.concatenate([truth, predicted])
    low, high = float(both.min()), float(both.max())
    unit = 164 / ((high - low) or 1.0)
    x, y = 8 + (truth - low) * unit, 172 - (predicted - low) * unit
    parts = [
        '<path class="rule" d="M8 172L172 8"/>',
        _dots(x, y, "dots"),
        _text(8, 190, number(low)),
        _text(172, 190, number(high), "end"),
        _text(90, 190, "true", "middle"),
        '<text transform="rotate(-90)" x="-90" y="188" text-anchor="middle">predicted</text>',
    ]
    return svg(parts, (196, 196), says, "scatter")


def biplot(
    scores: np.ndarray, loadings: np.ndarray, names: Sequence[str], says: str
) -> Markup:
    """Return rows as points and coordinates as arrows, at equal aspect.

    Parameters
    ----------
    scores : ndarray of shape (rows, 2)
    loadings : ndarray of shape (coordinates, 2)
        All arrows have one scale, by which the longest is as long as the farthest point.
    names : sequence of str
    says : str
    """
    wide, high = 560.0, 440.0
    reach = float(np.abs(scores).max(initial=0.0)) or 1.0
    size = np.hypot(*loadings.T)
    order = np.argsort(-size, kind="stable")[:ARROWS]
    longest = float(size.max(initial=0.0)) or 1.0
    unit = (high / 2 - 24) / reach
    center = np.array([wide / 2, high / 2])

    def place(points: np.ndarray) -> np.ndarray:
        return center + points * [unit, -unit]

    dots = place(scores)
    parts = [
        f'<path class="rule" d="M0 {high / 2}H{wide}M{wide / 2} 0V{high}"/>',
        _dots(dots[:, 0], dots[:, 1], "dots"),
    ]
    taken: list[np.ndarray] = []
    for k in order.tolist():
        tip = place(0.95 * reach * loadings[k] / longest)
        here = tip + np.sign(tip - center) * [5, 4]
        hidden = any((np.abs(here - other) < NEAR).all() for other in taken)
        parts.append(_arrow(center, tip, "faint" if hidden else ""))
        if not hidden:
            taken.append(here)
            anchor = "start" if tip[0] >= center[0] else "end"
            parts.append(_text(here[0], here[1] + 4, shortened(names[k], 18), anchor))
    parts.append(_text(wide - 2, high / 2 - 5, "first", "end"))
    parts.append(_text(wide / 2 + 5, 12, "second"))
    return svg(parts, (wide, high), says, "biplot")


def _arrow(start: np.ndarray, tip: np.ndarray, kind: str) -> str:
    """Return a line with a head."""
    along = tip - start
    length = float(np.hypot(*along))
    if length < 1:
        return ""
    along = along / length
    across = np.array([-along[1], along[0]])
    head = [tip - 7 * along + side * 3 * across for side in (1, -1)]
    points = "".join(f"L{x:.1f} {y:.1f}" for x, y in (tip, head[0], tip, head[1]))
    return f'<path class="arrow {kind}" d="M{start[0]:.1f} {start[1]:.1f}{points}"/>'
