"""Near duplicates: the same content under another passage id, found by content hash, then by MinHash."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ragpool.pool.normal import words_of
from ragpool.types import Evidence

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5  # words
THRESHOLD = 0.85  # Jaccard similarity of the shingle sets
# 32 bands of 4 rows find a pair at the threshold with probability 1 - (1 - .85**4)**32 > 1 - 1e-10, so the exact
# check decides and not the sketch
_BANDS, _ROWS = 32, 4


class NearDuplicates:
    """The passages seen so far, and which of them a new one repeats."""

    def __init__(self) -> None:
        self._by_content: dict[tuple[str, ...], str] = {}
        self._words: dict[str, tuple[str, ...]] = {}
        self._buckets: dict[tuple[int, bytes], list[str]] = {}

    def __contains__(self, passage_id: str) -> bool:
        return passage_id in self._words

    def add(self, evidence: Evidence) -> None:
        """Remember a passage; later ones are compared with it."""
        words = words_of(evidence.title, evidence.text)
        self._words[evidence.passage_id] = words
        self._by_content.setdefault(words, evidence.passage_id)
        for bucket in _signature(words):
            self._buckets.setdefault(bucket, []).append(evidence.passage_id)

    def original_of(self, evidence: Evidence) -> tuple[str, float] | None:
        """The id of the passage that ``evidence`` repeats, and the Jaccard similarity; None when it is new.

        Texts that differ in a number are not duplicates, however long: two reports of two years, two versions of
        a contract.
        """
        words = words_of(evidence.title, evidence.text)
        same = self._by_content.get(words)
        if same is not None:
            return same, 1.0
        best: tuple[str, float] | None = None
        candidates = dict.fromkeys(
            name for bucket in _signature(words) for name in self._buckets.get(bucket, ())
        )
        for name in candidates:
            other = self._words[name]
            similarity = jaccard(words, other)
            if (
                similarity >= THRESHOLD
                and (best is None or similarity > best[1])
                and _numbers(words) == _numbers(other)
            ):
                best = name, similarity
        return best


def jaccard(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Jaccard similarity of the two texts' word 5-grams, in [0, 1]."""
    first, second = _shingles(one), _shingles(other)
    return len(first & second) / len(first | second)


def _numbers(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())


def _shingles(words: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset(words[i : i + SHINGLE] for i in range(max(1, len(words) - SHINGLE + 1)))


@lru_cache(maxsize=4096)  # a pool that is opened again has the same passages
def _signature(words: tuple[str, ...]) -> tuple[tuple[int, bytes], ...]:
    sketch = _empty_sketch().copy()
    sketch.update_batch([" ".join(shingle).encode("utf-8", "surrogatepass") for shingle in _shingles(words)])
    values = sketch.hashvalues
    return tuple((band, values[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS))


@lru_cache(maxsize=1)
def _empty_sketch() -> MinHash:
    from datasketch import MinHash  # slow to import (scipy), and a run without evidence does not need it

    return MinHash(num_perm=_BANDS * _ROWS, seed=1)
