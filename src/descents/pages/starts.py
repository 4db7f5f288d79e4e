"""The starts of a run as a table that the script of a page sorts, filters and saves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

import numpy as np

HELP = (
    "Drag a box in a picture, or click a dot, to select starts everywhere on this page; "
    "in a focused picture the arrow keys walk through the starts and Enter selects."
)


class StartsTable:
    """Columns of a value for each start.

    Parameters
    ----------
    count : int
    metric : str
        The column that "the best" starts are chosen by.
    higher : bool
        Whether larger values of the metric are better.
    unit : str
        What the rows are, in the plural.

    Examples
    --------
    >>> table = StartsTable(2, metric="loss", higher=False)
    >>> table.add("loss", "loss", np.array([0.5, np.nan]))
    >>> table.add("status", "end", np.array(["limit", "failed"]), filtered=True)
    >>> table.json()
    '{"count":2,"metric":"loss","higher":false,"unit":"starts","ties":[],"tip":[],"help":"...
    """

    def __init__(
        self, count: int, metric: str, higher: bool, unit: str = "starts"
    ) -> None:
        self.count, self.metric, self.higher, self.unit = count, metric, higher, unit
        self.columns: dict[str, dict[str, object]] = {}
        self.ties: list[str] = []
        """Columns of which less is better, which decide between equal values of the
        metric."""
        self.tip: list[str] = []
        """The columns that describe a start when the pointer is on it."""

    def add(
        self,
        name: str,
        label: str,
        values: np.ndarray,
        *,
        filtered: bool = False,
        shown: bool = True,
        places: int | None = None,
    ) -> None:
        """Add a column of numbers, or of texts, which may be filtered.

        Parameters
        ----------
        name, label : str
            The column's name in ``starts.parquet``, and the heading that is shown.
        values : ndarray of shape (count,)
        filtered : bool
            Whether one of its values can be chosen.
        shown : bool
            Whether the column is shown; saved files have all columns.
        places : int, optional
            The decimals that are shown.
        """
        facts: dict[str, object] = {"name": name, "label": label, "shown": shown}
        if places is not None:
            facts["places"] = max(places, 0)
        if filtered or values.dtype.kind not in "iufb":
            texts = np.array([str(value) for value in values], dtype=object)
            levels, codes = np.unique(texts, return_inverse=True)
            if values.dtype.kind in "iu":  # in the order of the numbers
                order = np.argsort(levels.astype(np.int64))
                levels, codes = levels[order], np.argsort(order)[codes]
            facts |= {
                "levels": levels.tolist(),
                "values": codes.tolist(),
                "filter": filtered,
            }
        elif values.dtype.kind == "f":
            facts["values"] = [
                float(f"{value:.6g}") if np.isfinite(value) else None
                for value in values.tolist()
            ]
        else:
            facts["values"] = values.astype(np.int64).tolist()
        self.columns[name] = facts

    @classmethod
    def of_losses(
        cls, rows: Mapping[str, np.ndarray], above: np.ndarray, label: str
    ) -> StartsTable:
        """Return the table of starts that are compared by their loss.

        Parameters
        ----------
        rows : mapping of ndarray
            The columns of ``starts.parquet``.
        above : ndarray
            How far each loss is above the best one, which also orders losses that are
            written alike.
        label : str
            The heading of these distances.
        """
        table = cls(len(rows["start"]), metric="loss", higher=False)
        table.add("start", "start", rows["start"])
        table.add("loss", "loss", rows["loss"])
        table.add("above", label, above)
        table.ties = ["above"]
        if "least_cosine" in rows:
            name = "least cosine of a component"
            table.add("least_cosine", name, rows["least_cosine"], places=3)
        table.add("status", "end", rows["status"], filtered=True)
        table.add("steps_taken", "steps", rows["steps_taken"])
        for name in ("gap", "gradient_norm", "seconds"):
            if name in rows:
                table.add(name, name.replace("_", " "), rows[name], shown=False)
        return table

    def json(self) -> str:
        """Return the table as JSON that may stand in a script element."""
        facts = {
            "count": self.count,
            "metric": self.metric,
            "higher": self.higher,
            "unit": self.unit,
            "ties": [name for name in self.ties if name in self.columns],
            "tip": self.tip,
            "help": HELP,
            "columns": list(self.columns.values()),
        }
        text = json.dumps(facts, separators=(",", ":"), ensure_ascii=True)
        # In HTML, only these characters could end the script element or begin a comment.
        return text.replace("<", "\\u003c").replace(">", "\\u003e")

    @staticmethod
    def link(filters: Mapping[str, str], top: int | None = None) -> str:
        """Return the address within the page at which starts are selected.

        Examples
        --------
        >>> StartsTable.link({"verdict": "dead units"}, top=10)
        '#starts&is.verdict=dead%20units&top=10'
        """
        parts = [
            f"is.{name}={quote(value, safe='')}" for name, value in filters.items()
        ]
        parts += [f"top={top}"] if top else []
        return "#starts&" + "&".join(parts)
