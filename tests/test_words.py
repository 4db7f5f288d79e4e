"""The texts use plain words: a list of words to avoid, and what to write instead.

Files are listed in `FILES` once they have been gone through. To add some, append their
patterns and run this file: each hit names the file, the line and a better word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FILES = (
    "CONTRIBUTING.md",
    "README.md",
    "docs/architecture.md",
    "docs/engine.md",
    "docs/examples.md",
    "docs/factorize.md",
    "docs/impute-command.md",
    "docs/impute.md",
    "docs/index.md",
    "docs/models.md",
    "docs/report.md",
    "docs/reproduce.md",
    "docs/scale.md",
    "docs/survey.md",
    "docs/terminal-and-notebook.md",
    "docs/train.md",
    "src/descents/*.py",
    "src/descents/bounds/*.py",
    "src/descents/cells/*.py",
    "src/descents/cli/*.py",
    "src/descents/constraints/*.py",
    "src/descents/diagnosis/*.py",
    "src/descents/displays/*.py",
    "src/descents/factorization/*.py",
    "src/descents/kernels/*.c",
    "src/descents/kernels/*.h",
    "src/descents/kernels/*.py",
    "src/descents/linalg/*.py",
    "src/descents/losses/*.py",
    "src/descents/lowrank/*.py",
    "src/descents/marginal/*.py",
    "src/descents/networks/*.py",
    "src/descents/optim/*.py",
    "src/descents/pages/*.html",
    "src/descents/pages/*.py",
    "src/descents/plots/*.py",
    "src/descents/reproduction/*.py",
    "src/descents/runs/*.py",
    "src/descents/statistics/*.py",
    "src/descents/storage/*.py",
    "src/descents/tables/*.py",
)
"""Files that have been gone through, as patterns below the root of the repository."""


class Word(NamedTuple):
    """Words to avoid: a pattern, a better word, and examples with and without them."""

    pattern: str
    instead: str
    wrong: tuple[str, ...]
    right: tuple[str, ...] = ()


# A sentence is searched with single spaces, and without the marks of comments and strings
# that lie between its lines.
WORDS = (
    Word(
        r"\b(is|are|was|were|be|been|not|never|it|which|who|they|being) told\b"
        r"|\btold (of|apart|from|by|that|together|how|why)\b",
        "reported, passed to, warned, or distinguished",
        ("it is told why", "All problems are told together.", "told apart from it"),
        (
            "all are reported together",
            "untold",
        ),
    ),
    Word(
        r"\bfore(tell|tells|told|telling)\b",
        "predict, predicted",
        ("What to foretell.", "rows are foretold"),
        ("the column to predict",),
    ),
    Word(
        r"\b(is|are|was|were|be|been|what) asked\b|\basked of\b"
        r"|\b(is|are|that|which|one|rank|precision) asked for\b|\basks (nothing )?of\b",
        "requested, required, or a constraint on",
        ("What is asked of the factors", "the one asked for", "starts are asked for"),
        ("from descents.studies import asked", "asked.Reading(", "asked.identity("),
    ),
    Word(
        r"\bheld against\b",
        "compared with",
        ("every result held against the best known answer",),
        ("it is held out",),
    ),
    Word(
        r"\bwhat (is|was|are|were) (held|kept|given|found|known|seen)\b",
        "the noun: the fit, the weights, the cache, the observed cells",
        ("returns what is held there", "what was found"),
    ),
    Word(
        r"\bwhat holds\b|\bholds? a (filled|missing|imputed) cell\b",
        "prediction interval",
        ("to know what holds a filled cell", "sets hold a filled cell"),
        ("a file that holds a table",),
    ),
    Word(
        r"(?-i:\bnone (is|are|has|have|does|do|was)\b)|\bas none\b",
        "there is no, or because there is none",
        ("a loss below it, as none is", "none is below the minimum"),
        ("None is not a key", "None is below all numbers in this order", "is not none"),
    ),
    Word(
        r"\b(comes?|came) to rest\b|\b(starts?|it|that|loss|descent) rests\b"
        r"|\b(is|are|has|have) settled\b",
        "stops, or converged",
        ("where it comes to rest", "the start rests where", "the loss is settled"),
        ("settled(where, each, wanted)", "the rest of the rows", "Settled"),
    ),
    Word(
        r"\bdescended from\b|\bdescended(?= in parts)",
        "tried, or trained",
        ("20 starts were descended from.",),
        ("a process that descends",),
    ),
    Word(
        r"\b(falls?|fell|fallen|falling) short\b",
        "did not reach",
        ("starts that fall short", "it fell short of it"),
        ("the list is short",),
    ),
    Word(
        r"\bstarts? succeeds?\b|“succeed”|\bsucceed: ",
        "within 0.02 of the best",
        ("a start succeeds", "“Succeed”: at least"),
        ("the command succeeds",),
    ),
    Word(
        r"(?<!standard )(?<!\.)\bdeviations?\b(?! : |: np\.|=)",
        "standard deviation",
        ("the deviation between starts", "by their deviations"),
        (
            "the standard deviation between starts",
            'm["standard_deviation"]',
            "problem.deviations()",
            "deviations : float64 ndarray",
            "    deviations: np.ndarray",
        ),
    ),
    Word(
        r"\b(on|each|every|the|between|these|several|many|one|starts on|\d+|its) "
        r"(the )?divisions?\b|\bdivisions? of the rows\b",
        "split",
        ("each on 5 divisions", "on division 2", "a division of the rows"),
        ("rounding in division by zero", "integer division"),
    ),
    Word(
        r"\b(the|its|their|with|has|have|are|is|of|for|no|many|its|fills?|filled|filling"
        r"|white squares are) holes?\b(?![=\[(.:,]\w)",
        "missing cell",
        ("with its holes filled", "NaN are holes", "Holes: what fills the holes"),
        ("finite_matrix(name, table, holes=True)", "holes = np.flatnonzero(x)"),
    ),
    Word(
        r"\bbehind a colon\b",
        "after a colon",
        ("A number behind a colon",),
    ),
    Word(
        r"\bby (the )?(rows|blocks|columns) of\b",
        "per row, in row blocks",
        ("read it by blocks of rows",),
        ("in blocks of rows",),
    ),
    Word(
        r"\b(at most|after|of|in|for|to|by|by the|with) so (much|many|long|often)\b"
        r"|\bso often as\b|\brepeated so often\b",
        "the number: at most SIZE, after SECONDS, n times",
        (
            "take at most so much memory",
            "Stop after so long",
            "it were repeated so often",
        ),
        ("so many problems that", "not so much"),
    ),
    Word(
        r"(?<!there )\b(is|are|was|were) no (whole |single |complete |such |plain |gzip )*"
        r"(table|file|number|path|text|category|code|date|size|level|matrix|entry|datum"
        r"|minimum|colon|run|folder|frame)s?\b",
        "is not a",
        ("x is no path", "it is no whole gzip file", "values are no numbers"),
        ("there is no file x", "it is no longer", "is not a number"),
    ),
    Word(
        r"\ba defect\b(?=( of descents| of this program|, were))",
        "a bug, please report it",
        ("below the minimum: a defect of descents",),
        ("a defect, shown as Python shows it",),
    ),
    Word(
        r"\bno loss can be below\b|\bas none can\b",
        "the proven lower bound",
        ("below what no loss can be below",),
    ),
    Word(
        r"\b(is|are|was|were|be) said (once|so|to|of|by|in|where|together)\b|\bsaid of\b",
        "stated, reported",
        ("a remedy is said once", "what is said of names"),
        ("she said", "said(size)"),
    ),
)

_BETWEEN_LINES = re.compile(r'\s*["”]?\s*\n\s*(?:#\s*)?(?:[frFR]{0,2}["“])?\s*|[ \t]+')


def _flat(text: str) -> tuple[str, list[int]]:
    """Return a text with single spaces, and the line of each of its characters."""
    parts: list[str] = []
    lines: list[int] = []
    end, line = 0, 1
    for match in [*_BETWEEN_LINES.finditer(text), None]:
        start = len(text) if match is None else match.start()
        parts.append(text[end:start])
        lines += [line] * (start - end)
        if match is not None:
            parts.append(" ")
            lines.append(line)
            line += match[0].count("\n")
            end = match.end()
    return "".join(parts), lines


def _hits(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, words and the better word for each hit in a text."""
    flat, lines = _flat(text)
    for word in WORDS:
        for match in re.finditer(word.pattern, flat, re.IGNORECASE):
            yield lines[match.start()], match[0], word.instead


def _files() -> list[Path]:
    return sorted({path for pattern in FILES for path in ROOT.glob(pattern)})


@pytest.mark.parametrize("pattern", FILES)
def test_listed_files_exist(pattern: str) -> None:
    assert list(ROOT.glob(pattern)), f"no file matches {pattern}"


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_words_are_plain(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}; write: {instead}"
        for line, words, instead in sorted(_hits(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(["words to avoid:", *found])


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.instead)
def test_patterns_find_what_they_should_and_no_more(word: Word) -> None:
    for text in word.wrong:
        assert re.search(word.pattern, text, re.IGNORECASE), text
    for text in word.right:
        assert not re.search(word.pattern, text, re.IGNORECASE), text


def test_words_are_found_across_lines_of_comments_and_strings() -> None:
    text = '# first\n# it is\n# told why\nx = (\n    "the "\n    f"deviation {y}"\n)\n'
    assert [(line, words) for line, words, _ in _hits(text)] == [
        (2, "is told"),
        (6, "deviation"),
    ]
    wrapped = '"the standard "\n    "deviation"'
    assert list(_hits(wrapped)) == []
