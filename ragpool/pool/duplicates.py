"""Near duplicates: the same content under another passage id, found by content hash, then by word 5-grams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from ragpool.pool.normal import words_of
from ragpool.types import Evidence

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 5  # words
THRESHOLD = 0.85  # Jaccard similarity of the shingle sets
SKETCHED = 256  # passages
# 32 bands of 4 rows find a pair at the threshold with probability 1 - (1 - .85**4)**32 > 1 - 1e-10, so the
# exact check decides and not the sketch
_BANDS, _ROWS = 32, 4


@dataclass(frozen=True)
class _Content:
    words: tuple[str, ...]

    @cached_property
    def shingles(self) -> frozenset[tuple[str, ...]]:
        count = max(1, len(self.words) - SHINGLE + 1)
        return frozenset(self.words[i : i + SHINGLE] for i in range(count))

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(word for word in self.words if word[0].isdigit())

    @cached_property
    def bands(self) -> tuple[tuple[int, bytes], ...]:
        """The MinHash signature, cut into bands; near duplicates share at least one."""
        sketch = _empty_sketch().copy()
        sketch.update_batch([" ".join(shingle).encode("utf-8", "surrogatepass") for shingle in self.shingles])
        values = sketch.hashvalues
        return tuple((band, values[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS))

    def similarity(self, other: _Content) -> float:
        smaller, larger = sorted((len(self.shingles), len(other.shingles)))
        if smaller < THRESHOLD * larger:
            return 0.0  # cannot reach the threshold
        common = len(self.shingles & other.shingles)
        return common / (smaller + larger - common)


class NearDuplicates:
    """The passages seen so far, and which of them a new one repeats.

    Up to ``sketched`` passages are compared one by one, which is faster than to load the sketching library;
    from there on MinHash finds the ones worth comparing. Both ways give the same answer.
    """

    def __init__(self, sketched: int = SKETCHED) -> None:
        self._sketched = sketched
        self._by_words: dict[tuple[str, ...], str] = {}
        self._contents: dict[str, _Content] = {}
        self._buckets: dict[tuple[int, bytes], list[str]] = {}
        self._in_buckets = 0

    def __contains__(self, passage_id: str) -> bool:
        return passage_id in self._contents

    def add(self, evidence: Evidence) -> None:
        """Remember a passage; later ones are compared with it."""
        content = _content(evidence.title, evidence.text)
        self._contents[evidence.passage_id] = content
        self._by_words.setdefault(content.words, evidence.passage_id)

    def original_of(self, evidence: Evidence) -> tuple[str, float] | None:
        """The passage that ``evidence`` repeats, and their similarity (1.0: the same words); None: it is new.

        Texts that differ in a number are not duplicates, however long they are: reports of two years, two
        versions of a contract.
        """
        content = _content(evidence.title, evidence.text)
        same = self._by_words.get(content.words)
        if same is not None:
            return same, 1.0
        best: tuple[str, float] | None = None
        for name in self._comparable(content):
            other = self._contents[name]
            if content.numbers == other.numbers:
                similarity = content.similarity(other)
                if similarity >= THRESHOLD and (best is None or similarity > best[1]):
                    best = name, similarity
        return best

    def _comparable(self, content: _Content) -> Iterable[str]:
        if len(self._contents) <= self._sketched:
            return self._contents
        for name in list(self._contents)[self._in_buckets :]:
            for band in self._contents[name].bands:
                self._buckets.setdefault(band, []).append(name)
        self._in_buckets = len(self._contents)
        # in the order of admission, so that ties fall to the same passage as without the sketch
        found = {name for band in content.bands for name in self._buckets.get(band, ())}
        return found if len(found) < 2 else [name for name in self._contents if name in found]


@lru_cache(maxsize=2048)  # a pool that is opened again has the same passages
def _content(title: str, text: str) -> _Content:
    return _Content(words_of(title, text))


@lru_cache(maxsize=1)
def _empty_sketch() -> MinHash:
    from datasketch import MinHash

    return MinHash(num_perm=_BANDS * _ROWS, seed=1)
