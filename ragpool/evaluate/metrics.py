"""Figures of question answering and of evidence, each a small function of plain values."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

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
    total = len(probabilities)
    return sum(
        abs(b.probability - b.share) * b.count / total for b in reliability(probabilities, outcomes, bins)
    )


def macro_f1(predicted: Sequence[bool], actual: Sequence[bool]) -> float:
    """The mean of the F1 of the two classes."""
    scores = []
    for label in (True, False):
        hits = sum(p == label and a == label for p, a in zip(predicted, actual, strict=True))
        total = sum(p == label for p in predicted) + sum(a == label for a in actual)
        scores.append(2 * hits / total if total else 1.0)
    return sum(scores) / 2


@dataclass(frozen=True, slots=True)
class Bin:
    """The probabilities of one bin: their mean, the share of them that came true, and how many they are."""

    probability: float
    share: float
    count: int


def reliability(probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = 10) -> list[Bin]:
    """The bins of a reliability diagram, equal in width, those without data left out."""
    held: dict[int, list[tuple[float, bool]]] = {}
    for probability, outcome in zip(probabilities, outcomes, strict=True):
        held.setdefault(min(int(probability * bins), bins - 1), []).append((probability, outcome))
    return [
        Bin(fmean(p for p, _ in found), fmean(float(o) for _, o in found), len(found))
        for _, found in sorted(held.items())
    ]


def bootstrap(values: Sequence[float], *, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean; paired when ``values`` are differences of pairs. nan without data."""
    if not len(values):
        return float("nan"), float("nan")
    data = np.asarray(values, dtype=float)
    random = np.random.default_rng(seed)
    # in blocks, so that a large data set does not become a matrix of samples x questions
    means = [
        data[random.integers(0, len(data), (100, len(data)))].mean(axis=1) for _ in range(samples // 100)
    ]
    drawn = np.sort(np.concatenate(means))
    return float(drawn[int(0.025 * len(drawn))]), float(drawn[int(0.975 * len(drawn)) - 1])
