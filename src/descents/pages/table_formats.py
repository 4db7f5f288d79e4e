"""Tables as text: LaTeX, Markdown and CSV, with the characters of each format escaped."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

from descents.text import without_formula

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "²": r"\textsuperscript{2}",
}
"""What stands for each special character in a LaTeX document."""
NUMBER = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?( to -?[0-9.]+(e[+-]?[0-9]+)?)?")
"""A number or an interval."""


def latex_text(text: str) -> str:
    r"""Return a text for a LaTeX document, with its special characters escaped.

    Examples
    --------
    >>> print(latex_text("a_b & 5% of {$x^2$}"))
    a\_b \& 5\% of \{\$x\textasciicircum{}2\$\}
    """
    return "".join(LATEX.get(character, character) for character in _one_line(text))


def markdown_text(text: str) -> str:
    r"""Return a text for a cell of a Markdown table.

    Examples
    --------
    >>> print(markdown_text("a|b *c* <d>"))
    a\|b \*c\* \<d\>
    """
    return re.sub(r"([\\|*_`<>\[\]~])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def latex(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
) -> str:
    r"""Return a table for LaTeX with the package booktabs.

    Examples
    --------
    >>> print(latex("A & B", ["x", "n"], [["a_1", "-2"]], [False, True]), end="")
    % \usepackage{booktabs}
    \begin{table}
    \caption{A \& B.}
    \begin{tabular}{lr}
    \toprule
    x & n \\
    \midrule
    a\_1 & $-2$ \\
    \bottomrule
    \end{tabular}
    \end{table}
    """
    align = "".join("r" if number else "l" for number in numbers)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        rf"\caption{{{latex_text(_sentence(caption))}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(map(latex_text, header)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(text: str) -> str:
    """Return a cell, with the minus signs of numbers as such."""
    if NUMBER.fullmatch(text) and "-" in text:
        return " to ".join(
            f"${part}$" if part.startswith("-") else part for part in text.split(" to ")
        )
    return latex_text(text)


def _sentence(caption: str) -> str:
    caption = caption[:1].upper() + caption[1:]
    return caption if caption.endswith(".") else f"{caption}."


def markdown(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
) -> str:
    r"""Return a table for Markdown, below its caption.

    Examples
    --------
    >>> print(markdown("A", ["x", "n"], [["a|1", "-2"]], [False, True]), end="")
    A.
    <BLANKLINE>
    | x | n |
    | --- | ---: |
    | a\|1 | -2 |
    """
    marks = ["---:" if number else "---" for number in numbers]
    lines = [
        f"| {' | '.join(cells)} |"
        for cells in (
            list(map(markdown_text, header)),
            marks,
            *(list(map(markdown_text, row)) for row in rows),
        )
    ]
    return "\n".join([markdown_text(_sentence(caption)), "", *lines]) + "\n"


def comma_separated(
    _caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    _numbers: Sequence[bool],
) -> str:
    r"""Return a table as CSV, without its caption.

    Examples
    --------
    >>> comma_separated("", ["x", "n"], [["a,1", "2"]], [False, True])
    'x,n\n"a,1",2\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def safe_comma_separated(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
) -> str:
    r"""Return a table as CSV in which a spreadsheet finds no formulas.

    Examples
    --------
    >>> safe_comma_separated("", ["x", "n"], [["=a", "-2"]], [False, True])
    "x,n\n'=a,-2\n"
    """
    safe = [list(map(without_formula, row)) for row in [header, *rows]]
    return comma_separated(caption, safe[0], safe[1:], numbers)


Format = Callable[[str, Sequence[str], Sequence[Sequence[str]], Sequence[bool]], str]
FORMATS: Mapping[str, Format] = {
    "latex": latex,
    "markdown": markdown,
    "csv": comma_separated,
    "safe csv": safe_comma_separated,
}
"""The function that writes a table in each format."""
