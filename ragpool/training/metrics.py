"""Figures of a binary judge: what is reported in cards and compared between candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def figures(probability: Floats, truth: npt.NDArray[np.bool_], threshold: float | Floats) -> dict[str, float]:
    """Macro-F1, AUROC, ECE, false positive and false negative rates, and the number of pools.

    A false positive is an insufficient pool called sufficient, as a share of the insufficient ones.
    """
    said = probability >= threshold
    negatives, positives = int((~truth).sum()), int(truth.sum())
    return {
        "pools": len(truth),
        "macro_f1": round((_f1(said, truth) + _f1(~said, ~truth)) / 2, 4),
        "auroc": round(auroc(probability, truth), 4),
        "ece": round(calibration_error(probability, truth), 4),
        "false_positives": round(float((said & ~truth).sum() / max(1, negatives)), 4),
        "false_negatives": round(float((~said & truth).sum() / max(1, positives)), 4),
    }


def auroc(score: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative; ties count half. .5 when a class is empty."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 0.5
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    del values
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(probability: Floats, truth: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: |accuracy - confidence| by equal-width bin, weighted by size."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    total = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            total += inside.sum() * abs(float(truth[inside].mean()) - float(probability[inside].mean()))
    return total / max(1, len(truth))


def _f1(said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    hit = int((said & truth).sum())
    return 2 * hit / max(1, int(said.sum()) + int(truth.sum()))
