"""What a notebook shows of an imputer."""

from __future__ import annotations

import numpy as np

from descents.marginal.tables import TableModel
from descents.plots import axes, notebook
from descents.text import counted


def block_of(model: TableModel) -> str:
    """Return the HTML of an imputer: its answer, the errors, and five columns.

    The errors are of held-out cells, over those of means and most frequent levels.
    """
    fitted, names = model.fitted, [column.name for column in model.columns]
    scored = [
        (name, score, flat)
        for name, score, flat in zip(names, fitted.scores, fitted.constant, strict=True)
        if score is not None
    ]
    ratios = np.array(
        [
            one.error / one.constant_error
            for _, one, _ in scored
            if one.constant_error > 0
        ]
    )
    if not scored:
        return notebook.block(
            f"{counted(len(names), 'modeled column')}. No cells were held out, so it is "
            "not known how well cells are filled that the fit has not seen.",
            {"column": names},
        )
    cells = counted(sum(one.cells for _, one, _ in scored), "cell")
    better = sum(one.is_better() for _, one, _ in scored)
    sentence = (
        f"On {cells} that a fit had not seen, {better} of "
        f"{counted(len(scored), 'column')} {'is' if better == 1 else 'are'} clearly "
        "predicted better than by the mean or the most frequent level."
    )
    scored.sort(key=lambda row: row[1].error / (row[1].constant_error or np.inf))
    what = "error over that of constants"

    return notebook.block(
        sentence,
        {
            "column": [name for name, _, _ in scored],
            "error*": [one.error for _, one, _ in scored],
            "by its mean or mode": [one.constant_error for _, one, _ in scored],
            "cells": [one.cells for _, one, _ in scored],
            "filled by": ["constant" if flat else "model" for _, _, flat in scored],
        },
        lambda ax: axes.sorted_values(ax, ratios, "columns", what, 1.0),
        note="* the root mean squared error, or the share of wrong levels",
    )
