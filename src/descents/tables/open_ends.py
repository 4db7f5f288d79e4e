"""Whole numbers whose smallest or largest level is an open end, such as 10+ or <5.

If all levels are open to the same side, as 100+, 500+ and 1,000+, they are ordered too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_OPEN_END = re.compile(
    r"(?P<below>[<≤] ?=? ?)?(?P<above>[>≥] ?=? ?)?"
    r"([0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?P<plus> ?\+)?"
)


@dataclass(frozen=True)
class Ends:
    """Levels of a column of whole numbers whose first or last level is an open end.

    Attributes
    ----------
    levels : tuple of str
        In order.
    """

    levels: tuple[str, ...]

    @property
    def says(self) -> str:
        """A clause that describes how the levels were read."""
        ends = [repr(x) for x in (self.levels[0], self.levels[-1]) if is_open(x)]
        what = "an open end" if len(ends) == 1 else "open ends"
        return (
            f"read as {len(self.levels)} ordered levels, because {' and '.join(ends)} "
            f"{'is' if len(ends) == 1 else 'are'} {what} (--missing MARK reads MARK as a "
            "missing cell instead)"
        )

    def described(self) -> dict[str, object]:
        """Return it as plain values."""
        return {"levels": list(self.levels)}


def open_ends(texts: Sequence[str], most: int) -> Ends | None:
    """Return the ordered levels of whole numbers with an open end, such as 10+ or <5.

    Parameters
    ----------
    texts : sequence of str
        The distinct cells.
    most : int
        Maximum number of levels.

    Returns
    -------
    Ends or None
        None if the cells are not such levels.

    Examples
    --------
    >>> open_ends(["3", "10+", "2"], 20).levels
    ('2', '3', '10+')
    >>> open_ends(["1,000+", "50+", "500+"], 20).levels
    ('50+', '500+', '1,000+')
    """
    if not 3 <= len(texts) <= most:
        return None
    keys: dict[str, tuple[int, int]] = {}
    ends = {-1: 0, 1: 0}
    for text in texts:
        match = _OPEN_END.fullmatch(text)
        if not match or (len(match[3]) > 1 and match[3][0] == "0"):
            return None
        signs = [match["below"], match["above"], match["plus"]]
        if sum(sign is not None for sign in signs) > 1:
            return None
        side = -1 if match["below"] else int(any(signs[1:]))
        if side:
            ends[side] += 1
        keys[text] = (int(match[3].replace(",", "")), side)
    order = tuple(sorted(keys, key=lambda text: keys[text]))
    distinct = len({number for number, _ in keys.values()}) == len(texts)
    if len(texts) in ends.values() and distinct:
        return Ends(order)
    sides = [keys[text][1] for text in order]
    # Not so if there are numbers beyond the end.
    one_each = any(ends.values()) and max(ends.values()) <= 1 and 0 in sides
    return Ends(order) if one_each and sides == sorted(sides) else None


def is_open(text: str) -> bool:
    """Return whether a cell is an open end, such as 10+ or <0.5.

    Examples
    --------
    >>> is_open("10+"), is_open("<0.5"), is_open("5")
    (True, True, False)
    """
    return re.fullmatch(r"[<>≤≥]=? ?[0-9.,]+|[0-9.,]+ ?\+", text) is not None
