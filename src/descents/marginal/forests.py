"""Forests of scikit-learn as plain arrays, which are stored without code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

MOST_PATHS = 2**20
"""Number of paths, one for each row and tree, that are followed together."""


@dataclass(frozen=True, eq=False)
class Forest:
    """A forest, which predicts the mean of the predictions of its trees.

    A tree lists its nodes in preorder, so that the left child of a node is the next node.
    A row goes left where its feature is at most the threshold.

    Attributes
    ----------
    roots : int64 ndarray of shape (trees,)
        The first node of each tree.
    features : int16 or int32 ndarray of shape (nodes,)
        The feature that a node compares; 0 at leaves.
    thresholds : float32 ndarray of shape (nodes,)
        Features are compared as float32, so that these are as exact as float64.
    right : int32 ndarray of shape (nodes,)
        The right child of a node; ``-1 - k`` at leaf k.
    values : ndarray of shape (leaves, outputs)
        The predictions of the leaves as float64, or for levels, the numbers of training
        rows of each level as unsigned integers.
    """

    roots: np.ndarray
    features: np.ndarray
    thresholds: np.ndarray
    right: np.ndarray
    values: np.ndarray

    @classmethod
    def of(
        cls, fitted: ExtraTreesRegressor | ExtraTreesClassifier, width: int = 0
    ) -> Forest:
        """Return the trees of a fitted forest.

        Parameters
        ----------
        fitted : ExtraTreesRegressor or ExtraTreesClassifier
            A classifier has classes 0, 1, ...
        width : int
            The number of classes, including those that the forest has not seen; 0 for a
            regressor.

        Examples
        --------
        >>> from sklearn.ensemble import ExtraTreesRegressor
        >>> X = np.random.default_rng(0).normal(size=(50, 3))
        >>> fitted = ExtraTreesRegressor(10, random_state=0).fit(X, X[:, 0])
        >>> found = Forest.of(fitted).predict(X)[:, 0]
        >>> bool(abs(found - fitted.predict(X)).max() < 1e-12)
        True
        """
        trees = [one.tree_ for one in fitted.estimators_]
        sizes = [tree.node_count for tree in trees]
        roots = np.cumsum([0, *sizes[:-1]])
        right = np.concatenate(
            [
                tree.children_right + root
                for tree, root in zip(trees, roots, strict=True)
            ]
        )
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        right[leaf] = -1 - np.arange(leaf.sum())
        features = np.concatenate([tree.feature for tree in trees])
        features[leaf] = 0
        small = features.max(initial=0) < 2**15
        values = np.concatenate([tree.value[:, 0] for tree in trees])[leaf]
        if width:
            rows = np.concatenate([tree.weighted_n_node_samples for tree in trees])
            counts = np.zeros((len(values), width))
            counts[:, fitted.classes_] = np.rint(values * rows[leaf][:, None])
            values = counts.astype(np.min_scalar_type(int(counts.max(initial=1))))
        return cls(
            roots.astype(np.int64),
            features.astype(np.int16 if small else np.int32),
            _rounded_down(np.concatenate([tree.threshold for tree in trees])),
            right.astype(np.int32),
            values,
        )

    def predict(self, design: np.ndarray) -> np.ndarray:
        """Return predictions, or the probabilities of levels.

        Parameters
        ----------
        design : ndarray of shape (rows, features)

        Returns
        -------
        float64 ndarray of shape (rows, outputs)
        """
        design = np.asarray(design, dtype=np.float32)
        values = self.values.astype(np.float64)
        if self.values.dtype.kind == "u":
            values /= values.sum(1, keepdims=True)
        found = np.zeros((len(design), values.shape[1]))
        step = max(MOST_PATHS // len(self.roots), 1)
        for first in range(0, len(design), step):
            rows = slice(first, first + step)
            found[rows] = values[self._leaves(design[rows])].mean(1)
        return found

    def _leaves(self, design: np.ndarray) -> np.ndarray:
        """Return the leaf of each row in each tree, shape (rows, trees)."""
        nodes = np.tile(self.roots, len(design))
        going = np.arange(len(nodes))  # the paths that have not reached a leaf
        while True:
            going = going[self.right[nodes[going]] >= 0]
            if not len(going):
                leaves = -1 - self.right[nodes]
                return leaves.reshape(len(design), len(self.roots))
            at = nodes[going]
            own = design[going // len(self.roots), self.features[at]]
            left = own <= self.thresholds[at]
            nodes[going] = np.where(left, at + 1, self.right[at])


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """Return the largest float32 numbers that are at most some thresholds."""
    found = thresholds.astype(np.float32)
    below = np.nextafter(found, np.float32(-np.inf))
    return np.where(found > thresholds, below, found)
