"""The fit of a table that several processes share, put together in the first one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descents.cells.distributed import Distributed
from descents.lowrank.fitted import Fitted


def gathered(fit: Fitted) -> Fitted | None:
    """Return the fit of all rows in the first process, and None in the others.

    The rows of U are sent in blocks. A fit of one process is returned as it is.

    Parameters
    ----------
    fit : Fitted
        In each process, with the rows of U that it has.
    """
    problem, cells = fit.problem, fit.problem.cells
    if not isinstance(cells, Distributed) or cells.together.size == 1:
        return fit
    parameters = dict(fit.runs.parameters)
    for name in problem.divided:
        if name in parameters:
            rows = np.ascontiguousarray(np.moveaxis(parameters[name], 1, 0))
            whole = cells.together.rows(rows)
            if whole is not None:
                parameters[name] = np.moveaxis(whole, 0, 1)
    blank = cells.together.each(fit.known.blank_rows + cells.first_row)
    of_all = cells.gathered()
    if of_all is None:
        return None
    return replace(
        fit,
        problem=problem.on_whole(of_all),
        runs=replace(fit.runs, parameters=parameters),
        known=replace(fit.known, blank_rows=np.concatenate(blank)),
    )
