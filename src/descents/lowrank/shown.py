"""What a notebook shows of a low-rank model."""

from __future__ import annotations

from descents.lowrank.fitted import Fitted
from descents.plots import axes, notebook


def block_of(fitted: Fitted) -> str:
    """Return the HTML of a model: its answer, its components, and five columns.

    If cells were held out, these are the columns that are predicted best.
    """
    components, labels = fitted.components, fitted.labels
    rank, names = len(components), [model.name for model in fitted.models]
    if fitted.judged is not None:
        sentence = f"Rank {rank}. {fitted.judged.overall()['says']}"
        shares = [-9.0 if x is None else x for x in fitted.judged.shares()]
        order = sorted(range(len(names)), key=lambda j: -shares[j])[: notebook.ROWS]
        known = fitted.judged.shares()
        told = [known[j] for j in order]
        predicted = ["-" if share is None else f"{share:.0%}" for share in told]
        more = {"predicted of cells not seen": predicted}
    else:
        penalized = " with its penalty" if fitted.penalty else ""
        sentence = (
            f"Rank {rank}. The loss{penalized} is {fitted.loss:.4g}, where the best "
            f"constants have {fitted.constants_loss:.4g}; this is of cells that the fit "
            "has seen, because no cells were held out."
        )
        order, more = list(range(min(notebook.ROWS, len(names)))), {}
    first = [
        next(k for k, label in enumerate(labels) if label in fitted.models[j].labels)
        for j in order
    ]
    loadings = {
        f"component {c + 1}": [float(components[c, k]) for k in first]
        for c in range(min(rank, 3))
    }
    return notebook.block(
        sentence,
        {
            "column": [names[j] for j in order],
            "loss": [fitted.models[j].loss.name for j in order],
            **more,
            **loadings,
        },
        lambda ax: axes.loadings(ax, components, labels, {}),
        rows=len(names),
    )
