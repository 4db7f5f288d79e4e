"""How the commands print: sentences, tables and messages, in the width that there is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, cast

import click

from descents.cli.streams import Visible
from descents.errors import DrawingError
from descents.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

EASILY_READ = 16
"""Columns of numbers are left out before the column of names is narrower than this."""
LEAST_WIDTH = 20
"""The least number of characters in a line; narrower terminals are treated like this one."""


def terminal(
    *,
    stderr: bool = False,
    soft_wrap: bool = False,
    force_terminal: bool | None = None,
    color_system: Literal["auto", "standard"] = "auto",
    width: int | None = None,
) -> Console:
    """Return a console that prints colors, but escapes control characters in texts."""
    from rich.console import Console
    from rich.segment import Segment

    stream = sys.stderr if stderr else sys.stdout
    plain = stream.stream if isinstance(stream, Visible) else stream

    class VisibleConsole(Console):
        def _render_buffer(self, buffer: Iterable[Segment]) -> str:
            return super()._render_buffer(
                part if part.control else Segment(visible(part.text), part.style)
                for part in buffer
            )

    return VisibleConsole(
        file=cast("TextIO", plain),
        highlight=False,
        markup=False,
        soft_wrap=soft_wrap,
        force_terminal=force_terminal,
        color_system=color_system,
        width=width,
    )


def line_width(stream: TextIO | None = None) -> int | None:
    """Return how many characters a line may have, None if there is no limit.

    On a terminal it is the width of the terminal, or the environment variable COLUMNS. In
    a file or a pipe there is no limit: each sentence is one line there, so that ``grep``
    and ``diff`` find whole sentences, and the output does not depend on the window in
    which the command was run.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or not stream.isatty():
        return None
    return max(shutil.get_terminal_size().columns, LEAST_WIDTH)


def wrapped(text: str, width: int | None) -> str:
    """Return a text with line ends between words, so that lines are not wider than `width`.

    A word that is wider gets a line of its own. Lines after the first are indented like
    the first one.

    Parameters
    ----------
    text : str
        One line.
    width : int or None
        None leaves the text as it is.

    Examples
    --------
    >>> print(wrapped("The loss is the best of 3 starts.", 20))
    The loss is the best
    of 3 starts.
    """
    if width is None or len(text) * 2 <= width:
        return text
    from rich.cells import cell_len  # a character may be two cells wide

    words = text.split(" ")
    margin = " " * (len(text) - len(text.lstrip(" ")))
    lines, line = [], margin + text.lstrip(" ").split(" ")[0]
    for word in words[len(margin) + 1 :]:
        if cell_len(line) + 1 + cell_len(word) <= width:
            line = f"{line} {word}"
        else:
            lines.append(line.rstrip())
            line = margin + word
    return "\n".join([*lines, line])


def say(sentence: str | Path = "", *, color: str | None = None) -> None:
    """Print a sentence, wrapped at words on a terminal, with line ends in names escaped."""
    text = wrapped(visible(str(sentence)).replace("\n", "\\n"), line_width())
    if color is None or not sys.stdout.isatty():
        click.echo(text)
    else:
        terminal(soft_wrap=True).print(text, style=color)


def warn_of(sentences: Iterable[str]) -> None:
    """Print warnings, in yellow on a terminal."""
    for sentence in sentences:
        say(f"Warning: {sentence}.", color="yellow")


def say_error(sentence: str) -> None:
    """Print an error message on standard error: one line, unless it is a terminal."""
    text = f"descents: {visible(' '.join(sentence.split()))}"
    click.echo(wrapped(text, line_width(sys.stderr)), err=True)


def announce(what: str, silent: bool) -> None:
    """Print what a command begins with, before it loads anything large.

    It is printed on standard error, so that standard output has only results, and only if
    that is a terminal: elsewhere, an error is a single line.
    """
    if not silent and sys.stderr is not None and sys.stderr.isatty():
        text = visible(what).replace("\n", "\\n")
        click.echo(wrapped(f"{text} ...", line_width(sys.stderr)), err=True)


def announce_reading(table: str, silent: bool) -> None:
    """Print that a table is read, unless the file is absent, which is an error soon."""
    if table == "-":
        announce("Reading standard input", silent)
    elif os.path.exists(table):
        announce(f"Reading {table}", silent)


@dataclass(frozen=True)
class Column:
    """A column of a table that is printed.

    Attributes
    ----------
    title : str
    cells : sequence of str or Text
    left_out : int or None
        The order in which columns are left out if the table is too wide: the largest
        number first. A column with None, such as that of the names of the rows, is always
        printed; it is wrapped at words.
    right : bool
        Whether the cells are aligned to the right.
    """

    title: str
    cells: Sequence[str | Text]
    left_out: int | None = None
    right: bool = False

    def widths(self) -> tuple[int, int]:
        """Return the width of the longest word, and that of the longest cell."""
        from rich.cells import cell_len

        texts = [self.title, *map(str, self.cells)]
        words = [word for text in texts for word in text.split(" ")]
        longest = max(map(cell_len, texts))
        if self.left_out is not None:
            return longest, longest  # a number and its unit stay together
        return max(map(cell_len, words)), longest


def columns_that_fit(
    columns: Sequence[Column], width: int | None, margin: int, between: int
) -> tuple[list[int], list[int]]:
    """Return which columns of a table fit, by their places, and how wide each is.

    Parameters
    ----------
    columns : sequence of Column
    width : int or None
        Of a line; None is any.
    margin, between : int
        The characters that a table needs on its sides, and between two columns.
    """
    sizes = [column.widths() for column in columns]
    kept = list(range(len(columns)))

    def least() -> int:
        """Return the width where names are wrapped, but keep enough to be read."""
        easy = [max(sizes[k][0], min(sizes[k][1], EASILY_READ)) for k in kept]
        return sum(easy) + margin + between * (len(kept) - 1)

    while width is not None and least() > width:
        most = max(kept, key=lambda k: (columns[k].left_out or 0, k))
        if columns[most].left_out is None:
            break
        kept.remove(most)
    found = [sizes[k][1] for k in kept]
    if width is not None:
        for place, k in enumerate(kept):  # wrap the widest texts as far as needed
            over = sum(found) + margin + between * (len(kept) - 1) - width
            if over > 0:
                found[place] = max(sizes[k][0], found[place] - over)
    return kept, found


def show_table(
    columns: Sequence[Column],
    title: str | None = None,
    *,
    framed: bool = True,
    lines: bool = False,
) -> None:
    """Print a table; leave out columns for which there is no room, and say which.

    Parameters
    ----------
    columns : sequence of Column
    title : str, optional
    framed : bool
        Whether the table has lines around it.
    lines : bool
        Whether there are lines between rows.
    """
    from rich.box import HEAVY_HEAD
    from rich.table import Table

    width = line_width()
    margin, between = (4, 3) if framed else (0, 2)
    kept, sizes = columns_that_fit(columns, width, margin, between)
    table = Table(
        box=HEAVY_HEAD if framed else None,
        pad_edge=framed,
        header_style="table.header" if framed else "",
        show_lines=lines,
    )
    for place, size in zip(kept, sizes, strict=True):
        column = columns[place]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            width=size,  # at least that of the longest word, so no word is broken
        )
    for cells in zip(*(columns[place].cells for place in kept), strict=True):
        table.add_row(*cells)
    if title is not None:
        say(title)
    whole = sum(sizes) + margin + between * (len(sizes) - 1)
    terminal(width=whole).print(table, crop=False)
    missing = [c.title for k, c in enumerate(columns) if k not in kept]
    if missing:
        say(f"Left out in lines of {width} characters: {', '.join(missing)}.")


def draw_page(draw: Callable[..., None], folder: Path, contents: object) -> None:
    """Draw the page of a run; print a warning if it cannot be drawn.

    The fit is complete when its page is drawn, so an error in drawing must not lose it.
    """
    try:
        draw(folder, contents)
    except DrawingError as error:
        cause = error.__cause__
        say_error(
            f"the page could not be drawn ({type(cause).__name__}: {cause}); everything "
            "else is stored. This is a bug, please report it."
        )
