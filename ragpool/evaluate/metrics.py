"""Figures of question answering and of evidence, each a small function of plain values."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case without punctuation and articles, as SQuAD's evaluation has it (arXiv 1606.05250)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Collection[str]) -> float:
    """1 when the answer equals one of the golds after normalisation."""
    return float(any(normalise_answer(answer) == normalise_answer(g) for g in golds))


def token_f1(answer: str, golds: Collection[str]) -> float:
    """The best harmonic mean of token precision and recall over the golds; yes, no must match exactly."""
    return max((_f1(normalise_answer(answer), normalise_answer(g)) for g in golds), default=0.0)


def _f1(answer: str, gold: str) -> float:
    if answer != gold and (answer in ("yes", "no") or gold in ("yes", "no")):
        return 0.0
    said, wanted = answer.split(), gold.split()
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def recall_at(found: Sequence[str], gold: Collection[str], k: int) -> float:
    """The share of the gold ids among the first ``k`` found."""
    return len(set(found[:k]) & set(gold)) / len(set(gold)) if gold else 0.0


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties half; nan when one side is empty."""
    if not positives or not negatives:
        return float("nan")
    above = np.array(positives)[:, None] - np.array(negatives)[None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def calibration_error(probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (arXiv 1706.04599, eq. 3); nan without data."""
    if not probabilities:
        return float("nan")
    p, y = np.array(probabilities), np.array(outcomes, dtype=float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    return float(
        sum(abs(p[which == b].mean() - y[which == b].mean()) * np.mean(which == b) for b in np.unique(which))
    )


def macro_f1(predicted: Sequence[bool], actual: Sequence[bool]) -> float:
    """The mean of the F1 of the two classes."""
    scores = []
    for label in (True, False):
        hits = sum(p == label and a == label for p, a in zip(predicted, actual, strict=True))
        total = sum(p == label for p in predicted) + sum(a == label for a in actual)
        scores.append(2 * hits / total if total else 1.0)
    return sum(scores) / 2


def bootstrap(
    values: Sequence[float], *, samples: int = 2000, seed: int = 0, statistic: Callable[..., float] = np.mean
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic; paired when ``values`` are differences of pairs."""
    if not len(values):
        return float("nan"), float("nan")
    data = np.asarray(values, dtype=float)
    picks = np.random.default_rng(seed).integers(0, len(data), (samples, len(data)))
    drawn = np.sort([statistic(data[pick]) for pick in picks])
    return float(drawn[int(0.025 * samples)]), float(drawn[int(0.975 * samples) - 1])
