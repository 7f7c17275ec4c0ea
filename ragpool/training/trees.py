"""Boosted trees over the judge's features: a candidate for comparison, which nothing that ships needs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from ragpool.errors import MissingExtraError
from ragpool.feedback.passages import Vector

_LEAST = 40  # pools in a leaf: a few thousand pools of a few hundred questions are easily learnt by heart


class BoostedTrees:
    """Gradient-boosted trees of scikit-learn. Raises MissingExtraError where that is not installed."""

    @staticmethod
    def available() -> bool:
        return find_spec("sklearn") is not None

    def __init__(self, rows: Vector, labels: npt.NDArray[np.bool_], weights: Vector, *, seed: int) -> None:
        """Fit to feature rows [n, features]; ``weights`` [n]: a row of weight 0 is not seen."""
        if not self.available():
            raise MissingExtraError("scikit-learn", None, "the comparison with boosted trees")
        seen = weights > 0
        self._trees = import_module("sklearn.ensemble").HistGradientBoostingClassifier(
            max_iter=200, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=_LEAST, random_state=seed
        )
        self._trees.fit(rows[seen], labels[seen], sample_weight=weights[seen])

    def logits(self, rows: Vector) -> Vector:
        """Logits [n], not calibrated."""
        return np.asarray(self._trees.decision_function(rows), np.float32)
