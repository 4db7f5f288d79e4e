"""How estimators are shown: in one line, and in a notebook."""

from __future__ import annotations

import re
from collections.abc import Callable

from sklearn.base import BaseEstimator


class ShownEstimator(BaseEstimator):
    """An estimator whose `repr` is one line, and which a notebook shows with its answer.

    The HTML of scikit-learn, with the parameters, is kept. That of a fitted estimator is
    followed by a sentence, a picture and five rows.
    """

    def _shown(self) -> str:
        """Return the HTML that follows that of scikit-learn, if the estimator is fitted."""
        return ""

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the parameters that are not defaults, on one line."""
        return re.sub(r"\s*\n\s*", " ", super().__repr__(N_CHAR_MAX))

    @property
    def _repr_html_(self) -> Callable[[], str]:
        """A function that returns the HTML; absent if scikit-learn shows only text."""
        theirs = super()._repr_html_
        return lambda: theirs() + self._shown()

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        """Return what Jupyter shows, by its type."""
        found: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in found:
            found["text/html"] += self._shown()
        return found
