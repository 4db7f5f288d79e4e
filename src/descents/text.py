"""Words and characters in messages."""

from __future__ import annotations

import re

_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    r"""Return a text with its control characters escaped, except for line ends.

    A terminal executes control characters, and those that change the direction of
    writing make one text look like another. Neither may reach a terminal from a file.

    Examples
    --------
    >>> visible("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    return _CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count followed by its noun, in the singular or the plural.

    Examples
    --------
    >>> counted(1, "start"), counted(2, "start"), counted(0, "class", "classes")
    ('1 start', '2 starts', '0 classes')
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"
