"""The command that repeats a stored run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields

SPELLED = {
    "header": "no-header",
    "identifier": "id",
    "initialization": "init",
    "initializations": "init",
    "optimizers": "optimizer",
    "learning_rates": "learning-rate",
    "diagnosed": "diagnose",
    "folds": "cv",
}
"""Options whose name on the command line differs from that of the field."""

JOINED = {"hidden": ",", "image": "x"}
"""Options that take several values in one word, and what separates them."""

INNER = ("formats", "lenient")
"""Fields that no option of a command sets."""


def defaults(kind: type) -> dict[str, object]:
    """Return the default values of the fields of a dataclass.

    Examples
    --------
    >>> from descents.runs.request import Reading
    >>> defaults(Reading)["header"]
    True
    """
    return {one.name: one.default for one in fields(kind) if one.default is not MISSING}


def command_line(
    words: list[str], options: Mapping[str, object], usual: Mapping[str, object]
) -> str:
    """Return a command that repeats a run.

    Parameters
    ----------
    words : list of str
        The command and its arguments.
    options : mapping
        The options of the run, by the name of the field.
    usual : mapping
        The default values; options that have them are left out, except for the seed.

    Examples
    --------
    >>> command_line(["descents", "impute", "a b.csv"], {"missing": ["?"]}, {})
    "descents impute 'a b.csv' --missing '?'"
    >>> usual = {"batch_size": "auto", "header": True}
    >>> options = {"batch_size": None, "header": False, "hidden": [8, 8]}
    >>> command_line(["descents", "train", "t.csv"], options, usual)
    'descents train t.csv --batch-size all --no-header --hidden 8,8'
    """
    found = list(words)
    for name, value in options.items():
        plain = tuple(value) if isinstance(value, list) else value
        default = plain == usual.get(name) and name != "seed"
        if name in INNER or default or plain in ((), {}):
            continue
        found += _option(name, value)
    return shlex.join(found)


def _option(name: str, value: object) -> list[str]:
    """Return the words of an option."""
    option = f"--{SPELLED.get(name, name).replace('_', '-')}"
    if value is None:
        return [option, "all"] if name == "batch_size" else []
    if isinstance(value, bool):
        return [option]
    if isinstance(value, Mapping):
        values = [f"{one}={_word(of)}" for one, of in value.items()]
    elif isinstance(value, list | tuple) and name in JOINED:
        values = [JOINED[name].join(map(str, value))]
    elif isinstance(value, list | tuple) and name != "rank":
        values = [_word(one) for one in value]
    else:
        values = [_word(value)]
    return [word for one in values for word in (option, one)]


def _word(value: object) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, list):
        return "auto:" + ",".join(map(str, value))
    return repr(value) if isinstance(value, float) else str(value)
