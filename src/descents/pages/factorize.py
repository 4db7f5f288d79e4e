"""The page of `descents factorize`: what it says, its columns, components and starts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from markupsafe import Markup

from descents.pages import small
from descents.pages.answers import Alert, Answer, Tile
from descents.pages.columns import MANY, Detail, detail, points_of_column
from descents.pages.factorize_figures import (
    NOTHING,
    PICTURES,
    Run,
    above_best,
    by_hidden,
    has,
    percent,
    seen_share,
)
from descents.pages.kinds import Kind
from descents.pages.numbers import number, settings_of
from descents.pages.starts import StartsTable
from descents.runs.factorize_result import CLOSED, SAME, ColumnOfFit, LowRankResult
from descents.text import counted, in_rounds, joined

MOST_ROWS = 1000
"""How many rows are drawn in a biplot at most."""
MOST_LOADINGS = 40
"""How many coordinates the table of the loadings shows before it is folded."""
PAIRED = 4
"""Components that are drawn against each other."""


LOOSE = 0.1
"""A bound that is further below the loss than this says little about the fit."""


def starts(run: Run) -> StartsTable | None:
    """Return the table of all starts; None if there is one."""
    rows = run.rows
    if len(rows["start"]) < 2:
        return None
    label = "above the best / constants"
    table = StartsTable.of_losses(rows, above_best(run), label)
    table.tip = [n for n in ("start", "loss", "least_cosine") if n in table.columns]
    return table


# What the page says first


def answer(run: Run) -> Answer:
    """Return the answer of the page: how much the model explains, and how sure that is."""
    result = run.result
    table = "Standard input" if result.run.table == "-" else result.run.table
    sections = {"trust": "Can the filled cells be trusted?"}
    if result.held_out is None:
        sections["trust"] = "How well is each column fitted?"
    if result.selection is not None:
        chosen = result.selection
        only = chosen.penalties and len(chosen.ranks) == 1
        sections["rank"] = "Which penalty?" if only else "How many components?"
    sections |= {
        "components": "What are the components?",
        "starts": "Do the starts agree?",
        "worst": "Where does it fit worst?",
        "read": "What was read",
        "paper": "For your paper",
        "again": "Run it again",
    }
    return Answer(
        f"{table}: a model of rank {result.rank}",
        _sentence(run),
        _tiles(run),
        _alerts(run, sections),
        sections,
        result.command,
    )


def _sentence(run: Run) -> str:
    parts = [_explains(run.result), _agreement(run), _optimality(run.result)]
    first, *others = [part for part in parts if part]
    return ". ".join([first, *(part[0].upper() + part[1:] for part in others)]) + "."


def _explains(result: LowRankResult) -> str:
    """Return how much of seen and of hidden cells the model explains."""
    shares, rank = result.shares, f"Rank {result.rank}"
    if shares is None:  # a run of version 0.1
        says = "" if result.held_out is None else f". {result.held_out.says[:-1]}"
        return (
            f"{rank} has the loss {number(result.loss)} on seen cells, and the best "
            f"constants {number(result.constants_loss)}{says}"
        )
    seen = percent(shares.seen)
    if shares.measure == "variance":
        text = f"{rank} explains {seen} of the variance of seen cells"
    else:
        text = f"{rank} avoids {seen} of the error of the best constants on seen cells"
    if shares.hidden is None:
        return f"{text}; no cell was hidden to measure how well others are predicted"
    cells = counted(shares.cells, "held-out cell")
    mean = "" if shares.measure == "variance" else ", mean over columns"
    error = shares.standard_error
    sure = f", standard error {percent(max(error, 0.005))}" if error is not None else ""
    if error is not None and error < 0.005:
        sure = ", standard error below 1%"
    if shares.hidden <= 0:
        worse = percent(-shares.hidden)
        how = (
            f"{worse} more than constants"
            if worse != "0%"
            else "no better than constants"
        )
        what = "variance" if shares.measure == "variance" else "error"
        but = "and" if seen == "0%" else "but"
        text += (
            f", {but} is {how} on hidden ones"
            if worse == "0%"
            else f", {but} its {what} on hidden ones is {how}"
        )
        return f"{text} ({cells}{mean}{sure})"
    return f"{text} and {percent(shares.hidden, whole=True)} of hidden ones ({cells}{mean}{sure})"


def _agreement(run: Run) -> str:
    """Return how many starts have the components of the best."""
    result = run.result
    count, same = result.starts.count, result.starts.same_components
    if count == 1:
        return ""
    if same is None or not has(run, "cosines"):
        return ""
    if same == count:
        return f"all {count} starts find the same components"
    return f"{same} of {count} starts find the components of the best"


def _optimality(result: LowRankResult) -> str:
    """Return how far the loss is from the best known answer."""
    kind, gap = result.reference.kind, result.gap
    if kind == "best found" or gap is None:
        return "nothing better than the best start is known to compare its loss with"
    if kind == "exact":
        if gap <= CLOSED:
            return f"the loss equals the smallest possible one within {CLOSED:g}"
        return f"the loss is {_above(gap)} above the smallest possible one"
    if gap <= CLOSED:
        return f"the loss equals a proven bound within {CLOSED:g}, so it is optimal"
    if gap > LOOSE:
        return (
            "how far the loss is from the smallest possible one is open (it is at "
            f"most {_above(gap)} above a proven bound)"
        )
    return f"the loss is at most {_above(gap)} above a proven bound"


def _above(gap: float) -> str:
    """Return a relative distance as a percentage.

    Examples
    --------
    >>> _above(5.6), _above(0.0123)
    ('560%', '1.2%')
    """
    return f"{100 * gap:.2g}%" if gap < 1 else f"{100 * gap:.0f}%"


def _tiles(run: Run) -> list[Tile]:
    result = run.result
    shares, tiles = result.shares, []
    if shares is not None:
        what = (
            "of the variance"
            if shares.measure == "variance"
            else "of the error of constants"
        )
        if shares.hidden is None:
            tiles.append(
                Tile(
                    percent(shares.seen),
                    f"{what} of seen cells; not known for cells that the fit has not seen",
                )
            )
        else:
            verb = "" if shares.measure == "variance" else " is avoided"
            rounds = in_rounds(result.held_out.rounds if result.held_out else 0)
            tiles.append(
                Tile(
                    percent(shares.hidden, whole=True),
                    f"{what}{verb}, on {counted(shares.cells, 'held-out cell')}{rounds}; "
                    f"{percent(shares.seen)} of seen cells",
                )
            )
    tiles.append(_tile_of_starts(run))
    kind, gap = result.reference.kind, result.gap
    if kind == "best found" or gap is None:
        value, says = "not known", "how far the loss is from the smallest possible one"
    elif gap <= CLOSED:
        value = "optimal"
        says = f"the loss is within {CLOSED:g} of " + (
            "the exact answer" if kind == "exact" else "a proven bound"
        )
    elif kind == "exact":
        value, says = _above(gap), "above the exact answer"
    elif gap > LOOSE:
        value = "open"
        says = (
            f"how far the loss is from the smallest possible one: it is at most "
            f"{_above(gap)} above a proven bound, which is too far away to tell"
        )
    else:
        value, says = _above(gap), "above a proven bound at most"
    return [*tiles, Tile(value, says)]


def _tile_of_starts(run: Run) -> Tile:
    found = run.result.starts
    if found.count == 1:
        return Tile(
            "1 start", "so whether starts agree cannot be judged; --starts 10 would"
        )
    if found.same_components is None or not has(run, "cosines"):
        says = "whether the starts find the same components"
        if vanished(run.result):
            says += ", as no component remains"
        return Tile("not known", says)
    return Tile(
        f"{found.same_components} of {found.count}",
        f"starts have the same components (each cosine at least {SAME:g})",
    )


def _alerts(run: Run, sections: Mapping[str, str]) -> list[Alert]:
    """Return what a reader must not miss, with the section that explains it."""
    result = run.result
    lines = [(line, _section_of(line)) for line in result.warnings]
    found = result.starts
    same = found.same_components
    if same is not None and same < found.count and has(run, "cosines"):
        lines.append((differing(run), "starts"))
    flat = [c.name for c in result.columns if c.observed and seen_share(c) is None]
    if flat:
        verb = "has" if len(flat) == 1 else "have"
        lines.append(
            (
                f"{counted(len(flat), 'column')} {verb} a single value: {_some(flat)}",
                "read",
            )
        )
    penalty = [line for line in result.defaults if line.startswith("Penalty")]
    lines += [(f"a default penalty is in force. {line}", "read") for line in penalty]
    return [
        Alert(f"{line}.", section, sections[section])
        for line, section in ((x, s if s in sections else "trust") for x, s in lines)
    ]


def _section_of(line: str) -> str:
    """Return the section that a warning belongs to."""
    words = {
        "stationary": "starts",
        "starts": "starts",
        "interrupted": "starts",
        "alone is": "read",
        "no observed cell": "read",
        "rank": "rank",
    }
    return next((section for word, section in words.items() if word in line), "trust")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def differing(run: Run) -> str:
    """Return a sentence on the components that depend on the start."""
    found = run.result.starts
    unsure = [
        f"component {k} ({cosine:.2f})"
        for k, cosine in enumerate(found.cosines, 1)
        if cosine is not None and cosine < SAME
    ]
    same = f"{found.same_components} of {counted(found.count, 'start')}"
    if not unsure:
        return f"Only {same} have the components of the best start"
    return (
        f"Components depend on the start: {same} have those of the best; the median cosine "
        f"of the match is below {SAME:g} for {joined(unsure[:6])}"
    )


# What the sections show


def _details(run: Run) -> list[Detail]:
    """Return all columns, by how well they are predicted."""
    result = run.result
    places = {id(column): k for k, column in enumerate(result.columns)}
    most = points_of_column(len(result.columns))
    return [
        detail(
            column.name,
            places[id(column)],
            _summary(column, result.held_out is not None),
            column.distribution,
            run.tensors,
            column.held_out or 0,
            most,
            column.calibration,
        )
        for column in by_hidden(result)
    ]


def _summary(column: ColumnOfFit, judged: bool) -> str:
    """Return in a few words how well a column is predicted."""
    hidden = f"hidden: {percent(column.unseen)}"
    if column.unseen is not None and column.held_out is not None:
        hidden += f" of {counted(column.held_out, 'cell')}"
    hidden = f"{hidden}; " if judged else ""
    by = "; filled with its constant" if column.filled_by == "constant" else ""
    return f"{hidden}seen: {percent(seen_share(column))}{by}"


def vanished(result: LowRankResult) -> bool:
    """Return whether the components add nothing to the constants."""
    seen = None if result.shares is None else result.shares.seen
    return seen is not None and abs(seen) < NOTHING


def importance(run: Run) -> list[float]:
    """Return the share of each component in their sum of squares."""
    tensors = run.tensors
    size = np.square(tensors.get("importance", tensors["sizes"]).astype(np.float64))
    total = float(size.sum())
    return (size / total if total > 0 else np.zeros(len(size))).tolist()


def _loadings(run: Run) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return the name, and the loadings and their shades, of each coordinate."""
    loadings = run.tensors["loadings"].astype(np.float64)
    size = np.abs(loadings).max(0, initial=0.0)
    shades = 45 * loadings / np.where(size > 0, size, 1.0)
    return [
        (name, list(zip(row.tolist(), shade.tolist(), strict=True)))
        for name, row, shade in zip(
            run.result.strongest, loadings, shades, strict=False
        )
    ]


def components_say(run: Run) -> str:
    """Return which coordinates each of the first components consists of."""
    loadings = run.tensors["loadings"].astype(np.float64)
    shares, names = importance(run), run.result.strongest
    if vanished(run.result):
        return (
            "No component remains: the penalty shrinks all of them to 0, and the model "
            "predicts the best constants."
        )
    parts = []
    for k in range(min(3, loadings.shape[1])):
        size = np.abs(loadings[:, k])
        top = [j for j in np.argsort(-size)[:3] if size[j] > 0.5 * size.max()]
        parts.append(
            f"component {k + 1} ({percent(shares[k])} of the sum of squares of what is "
            f"fitted) is mostly {joined([names[j] for j in top])}"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _pairs(run: Run) -> list[tuple[str, str, Markup, str]]:
    """Return the biplot of each pair of the first components."""
    scores = run.tensors["scores"].astype(np.float64)
    loadings = run.tensors["loadings"].astype(np.float64)
    count = min(scores.shape[1], loadings.shape[1], PAIRED)
    picked = np.unique(
        np.linspace(0, len(scores) - 1, min(len(scores), MOST_ROWS)).round().astype(int)
    )
    rows = run.result.shape[0]
    drawn = (
        f"{len(picked)} of {rows} rows" if len(picked) < rows else f"all {rows} rows"
    )
    found = []
    for a, b in combinations(range(count), 2):
        says = (
            f"Rows as dots ({drawn}) and columns as arrows: component {a + 1} to the "
            f"right, component {b + 1} upward, at equal aspect. All arrows have one scale. "
            "Faint arrows have no name, because it would overlap with another."
        )
        figure = small.biplot(
            scores[picked][:, [a, b]], loadings[:, [a, b]], run.result.strongest, says
        )
        found.append((f"{a + 1}{b + 1}", f"{a + 1} and {b + 1}", figure, says))
    return found


def starts_say(run: Run) -> str:
    """Return whether starts agree, in losses and in components."""
    result = run.result
    found = result.starts
    if found.count == 1:
        return (
            "One start was made, so whether starts agree cannot be judged. --starts 10 "
            "would show whether others reach the same loss and the same components."
        )
    if found.same_components is None:
        return (
            f"{found.count} starts were made; this run is of a version that did not match "
            "their components."
        )
    if not has(run, "cosines"):
        return "The model has no components that could be compared."
    text = (
        f"{found.same_components} of {found.count} starts have the same components as the "
        f"best, start {found.best}: each component of the best has a match with an absolute "
        f"cosine of at least {SAME:g}. "
    )
    if found.same_components == found.count:
        return f"{text}The components can be interpreted."
    space = found.subspace_agreement
    if space is not None and space > 0.999:
        return (
            f"{text}The starts find the same space of columns (agreement {number(space)}), "
            "but other components within it, so interpret the space and not single "
            "components."
        )
    return f"{text}Components depend on the start, so interpret them with care."


def extra(run: Run) -> dict[str, object]:
    """Return what the template needs besides the result."""
    result = run.result
    loadings = [] if vanished(result) else _loadings(run)
    details = _details(run)
    flat = {one.name for one in result.columns if one.filled_by == "constant"}
    return {
        "details": details,
        "folded": len(details) > MANY,
        "percent": percent,
        "importance": importance(run),
        "loadings": loadings[:MOST_LOADINGS],
        "more_loadings": loadings[MOST_LOADINGS:],
        "components_say": components_say(run),
        "shown_components": run.tensors["loadings"].shape[1],
        "pairs": _pairs(run) if loadings else [],
        "starts_say": starts_say(run),
        "histogram": small.histogram,
        "says_of": small.says_of,
        "settings": settings_of({**result.run.options, **result.run.reading}),
        "auto": f"--rank auto:{result.rank}",
        "worst_cells": [cell for cell in result.worst_cells if cell.column not in flat],
    }


KIND = Kind(LowRankResult, PICTURES, answer, starts, extra, has)
