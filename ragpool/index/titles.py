"""Which passages are about an entity, by the title of their document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ragpool.index.lexical import fold

_BRACKETED = re.compile(r"\s*\([^()]*\)\s*$")
_NOT_WORD = re.compile(r"[\W_]+")


def normalise(title: str) -> str:
    """Folded words with single spaces: no case, accents or punctuation."""
    return _NOT_WORD.sub(" ", fold(title)).strip()


def without_brackets(title: str) -> str:
    """``The Mask (film)`` -> ``The Mask``."""
    return _BRACKETED.sub("", title) or title


class Titles(Mapping[str, tuple[str, ...]]):
    """Normalised title -> passage ids in document order, under the full title and the one without brackets."""

    def __init__(self, titles: Iterable[tuple[str, str]]) -> None:
        full: dict[str, list[str]] = {}
        short: dict[str, list[str]] = {}
        for passage_id, title in titles:
            name, plain = normalise(title), normalise(without_brackets(title))
            if name:
                full.setdefault(name, []).append(passage_id)
            if plain and plain != name:
                short.setdefault(plain, []).append(passage_id)
        # The exact title first: "Mask" before "Mask (film)".
        self._ids = {name: (*full.get(name, ()), *short.get(name, ())) for name in full | short}

    def find(self, title: str) -> tuple[str, ...]:
        """The passages titled ``title``; failing that, those titled so without the brackets of either."""
        return self._ids.get(normalise(title)) or self._ids.get(normalise(without_brackets(title)), ())

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self._ids[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
