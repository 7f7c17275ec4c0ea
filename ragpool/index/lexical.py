"""BM25 over tokenised passages, by rank-bm25, with the parts that bite replaced (stop words, idf, speed)."""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from ragpool.index.store import PassageStore

_LOG = logging.getLogger(__name__)
_TERMS_FILE = "bm25.json"
_TOKENIZER = 1  # to be raised when ``tokenize`` finds other terms than before

# Low saturation and little length normalisation suit paragraphs: all gold passages within 8 for .412 of 500
# 2WikiMultihopQA training questions, where k1 = 1.2 and b = .75 find .392 (hybrid: .436 and .422).
K1 = 0.9
B = 0.4

# Articles, pronouns, prepositions, conjunctions; auxiliaries; question words. Not "may" and "will": month and name.
_STOP_LIST = """
a an the this that these those it its he him his she her hers they them their theirs we our ours you your yours i me
my mine himself herself itself themselves one ones of in on at by for from to into onto with within without about
between among through during before after above below over under up down out off and or but nor if than then so as
because while though although until since both either neither each every all any some no not there here also
be is am are was were been being do does did done doing have has had having can could would shall should might must
what which who whom whose when where why how many much s t d ll re ve
"""
_STOP_WORDS = frozenset(_STOP_LIST.split())

_FOLDED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
_LATIN_MARKS = re.compile("[\u0300-\u036f]")
# Letters and digits of any script, with the vowel signs that \w leaves out.
_WORD = re.compile(
    "(?:[^\\W_]|[\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f00-\u0fff"
    "\u1000-\u109f\u1780-\u17ff])+"
)
# Scripts written without spaces (and Hangul, whose particles stick to the noun): indexed by pairs of characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_GROUPED_NUMBER = re.compile(r"(?<=\d)[,'\u2019\u202f\u00a0](?=\d{3}(?!\d))")
_POSSESSIVE = re.compile(r"['\u2019]s\b")


def fold(text: str) -> str:
    """Lower case without Latin, Greek and Cyrillic diacritics; compatibility forms (full width, ligatures) resolved."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub("", decomposed)).translate(_FOLDED)


def tokenize(text: str) -> list[str]:
    """The terms of ``text``: folded words and numbers (1,024 is 1024) without stop words; pairs in CJK scripts."""
    terms: list[str] = []
    folded = _POSSESSIVE.sub("", _GROUPED_NUMBER.sub("", fold(text)))
    for word in _WORD.findall(folded):
        if word.isascii():
            if word not in _STOP_WORDS:
                terms.append(word)
        else:
            terms.extend(_split_unspaced(word))
    return terms


def _split_unspaced(word: str) -> list[str]:
    terms: list[str] = []
    position = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > position:
            terms.append(word[position : run.start()])
        characters = run.group()
        terms.extend(characters[i : i + 2] for i in range(max(1, len(characters) - 1)))
        position = run.end()
    if position < len(word):
        terms.append(word[position:])
    return terms


class BM25(BM25Okapi):  # type: ignore[misc]  # rank_bm25 has no types
    """Okapi BM25 whose idf is positive, ln(1 + (N - n + .5) / (n + .5)), and that visits matching passages only.

    rank_bm25's own idf is negative for terms of more than half the passages; its floor then lifts "film" below
    "the". Its scoring asks every passage for every term: 17 ms at 6,000 passages where postings take .2.
    """

    def __init__(self, corpus: Sequence[Sequence[str]], k1: float = K1, b: float = B) -> None:
        super().__init__(corpus, k1=k1, b=b, epsilon=0.0)
        self._slots = {term: slot for slot, term in enumerate(self.idf)}
        # Postings: for the term in slot s, the rows and counts at [bounds[s], bounds[s + 1]).
        sizes = [len(frequencies) for frequencies in self.doc_freqs]
        total = sum(sizes)
        slots = np.fromiter((self._slots[t] for f in self.doc_freqs for t in f), np.int32, total)
        order = np.argsort(slots, kind="stable")
        self._rows = np.repeat(np.arange(self.corpus_size, dtype=np.int32), sizes)[order]
        self._counts = np.fromiter((c for f in self.doc_freqs for c in f.values()), np.float64, total)[order]
        self._bounds = np.searchsorted(slots[order], np.arange(len(self._slots) + 1))
        lengths = np.asarray(self.doc_len, dtype=np.float64)
        self._norms = k1 * (1 - b + b * lengths / self.avgdl)

    def _calc_idf(self, nd: dict[str, int]) -> None:
        for term, n in nd.items():
            self.idf[term] = math.log(1 + (self.corpus_size - n + 0.5) / (n + 0.5))

    def get_scores(self, query: Sequence[str]) -> NDArray[np.float64]:
        """float64 [passages]; 0 where no term of ``query`` occurs."""
        scores = np.zeros(self.corpus_size)
        for term in query:
            slot = self._slots.get(term)
            if slot is not None:
                here = slice(self._bounds[slot], self._bounds[slot + 1])
                rows, counts = self._rows[here], self._counts[here]
                scores[rows] += self.idf[term] * counts * (self.k1 + 1) / (counts + self._norms[rows])
        return scores


class LexicalIndex:
    """BM25 over passages. ``ids`` are sorted, which makes ties come out by passage id."""

    def __init__(self, ids: Sequence[str], corpus: Sequence[Sequence[str]]) -> None:
        self._ids = ids
        self._bm25 = BM25(corpus) if any(corpus) else None

    @classmethod
    def load(cls, folder: Path, store: PassageStore) -> tuple[str, LexicalIndex]:
        """(corpus version, index) of what is in ``store``.

        The terms are kept in ``bm25.json`` (with the corpus version and a checksum), since finding them takes most of
        the time; that file is made again when it is behind, damaged or missing.
        """
        version = store.version()
        cached = _read_terms(folder / _TERMS_FILE, version)
        if cached is not None:
            return version, cls(*cached)
        version, rows = store.rows()
        ids = [row.id for row in rows]
        corpus = [tokenize(row.search_text) for row in rows]
        _write_terms(folder / _TERMS_FILE, version, ids, corpus)
        return version, cls(ids, corpus)

    def search(self, query: str, k: int, keep: Callable[[str], bool]) -> list[tuple[str, float]]:
        """The best ``k`` passages that share a term with ``query`` and pass ``keep``: (id, score), best first."""
        if self._bm25 is None:
            return []
        scores = self._bm25.get_scores(tokenize(query))
        matching = np.flatnonzero(scores > 0)
        found: list[tuple[str, float]] = []
        # Rounded for the comparison, since the last bits depend on the order of the terms.
        for row in matching[np.argsort(-scores[matching].round(9), kind="stable")]:
            if len(found) == k:
                break
            if keep(self._ids[row]):
                found.append((self._ids[row], float(scores[row])))
        return found


def _read_terms(path: Path, version: str) -> tuple[list[str], list[list[str]]] | None:
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
            if head["version"] != version or head["tokenizer"] != _TOKENIZER:
                return None
            body = file.read()
        if zlib.crc32(body) != head["crc32"]:
            return None
        ids, corpus = json.loads(body)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ids, corpus


def _write_terms(path: Path, version: str, ids: list[str], corpus: list[list[str]]) -> None:
    body = json.dumps([ids, corpus], ensure_ascii=False, separators=(",", ":")).encode()
    head = {"version": version, "tokenizer": _TOKENIZER, "crc32": zlib.crc32(body)}
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(json.dumps(head).encode() + b"\n" + body)
        temporary.replace(path)
    except OSError as error:  # a full disk or a store that may only be read: the next one tokenises again
        temporary.unlink(missing_ok=True)
        _LOG.info("the terms of BM25 are not kept: %s", error)
