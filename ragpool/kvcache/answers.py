"""What the model would look at while it writes an answer, asked before anything is evicted.

An answer's tokens look at other positions than the question's do. Which answer it will be is not known, but it is mostly
a name or a number of a good sentence. All of these are read behind the prompt in one pass, as branches of one tree
(some fifty tokens for a context of two thousand), and each position counts by the answer that looks at it most.
With the true answers' queries in place of these guesses, a quarter of the cache told as much as all of it on ten
MuSiQue contexts; with the question's queries alone, half as much.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from ragpool.kvcache.evicted import cropped, held_layers
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.lexical import words
from ragpool.kvcache.signals import LayerSignals, Signals, probed

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

# a capitalised word or a number, and what goes on in the same way: "Bank of England", "16 August 1967", "2,913,123"
_WORD = r"(?:[A-Z][\w'’-]*|\d[\w.,'’-]*\w|\d)"
_NAME = re.compile(rf"{_WORD}(?:(?: |, | of | the | of the | de | and ){_WORD})*")
_NUMBER_ASKED = re.compile(
    r"\b(when|how (many|much|old|long)|what (year|date|day)|number|population|born|died)\b", re.I
)
SENTENCES, MOST, LONGEST = 24, 20, 4  # the best sentences; answers taken from them; tokens of one


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that the context offers: its tokens, and the score of the best sentence that has it."""

    ids: tuple[int, ...]
    weight: float


def candidates(layout: PromptLayout, scores: Sequence[float]) -> list[Candidate]:
    """Names and numbers of the sentences with the highest ``scores`` that the question does not hold itself."""
    if not layout.starts:
        return []
    asked = set(words(layout.question_text))
    found: dict[tuple[int, ...], tuple[float, str]] = {}
    ranked = sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1]))
    for score, index in ranked[:SENTENCES]:
        for match in _NAME.finditer(layout.pieces[index].text):
            told = set(words(match[0]))
            if told and not told <= asked:
                first = layout.piece_starts[index] + match.start()
                ids = _tokens(layout, first, first + len(match[0]))
                found.setdefault(ids, (score, match[0]))
    number = _NUMBER_ASKED.search(layout.question_text) is not None
    fitting = sorted(
        found.items(), key=lambda item: number and not any(c.isdigit() for c in item[1][1])
    )  # stable: the best sentences first
    return [Candidate(ids, score) for ids, (score, _) in fitting[:MOST]]


def _tokens(layout: PromptLayout, first: int, last: int) -> tuple[int, ...]:
    """The tokens of the characters ``first``..``last``; a token may begin with the space before its word."""
    begin = max(bisect_right(layout.starts, first) - 1, 0)
    return layout.ids[begin : min(bisect_left(layout.starts, last), begin + LONGEST)]


def looked_at(
    model: PreTrainedModel,
    layout: PromptLayout,
    cache: Cache,
    signals: Signals,
    answers: Sequence[Candidate],
) -> tuple[torch.Tensor, ...] | None:
    """Attention to each cached position while one of ``answers`` is written, a layer [kv heads, length], each row summing to 1.

    ``cache`` holds the prompt but for its last token and stays as it is. None where a layer has a sliding window:
    there the tree cannot be read in one pass.
    """
    if not answers or any(getattr(layer, "is_sliding", False) for layer in held_layers(cache)):
        return None
    ids, parents, members = _tree(layout.ids[signals.length], answers)
    mask, depths = _branches(parents, signals.length)
    device = signals.layers[0].keys.device
    lowest = torch.finfo(model.dtype).min
    with probed(model, None) as probe:
        cast(Any, model)(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=torch.where(mask, 0.0, lowest).to(device, model.dtype)[None, None],
            position_ids=(signals.length + depths).to(device)[None],
            past_key_values=cropped(cache, signals.length),
            use_cache=True,
            logits_to_keep=1,
        )
    share = torch.zeros(len(answers), len(ids))
    for row, (answer, tokens) in enumerate(zip(answers, members, strict=True)):
        share[row, tokens] = answer.weight / len(tokens)
    return tuple(_peaks(layer, probe.queries[layer.index][0], share.to(device)) for layer in signals.layers)


def _tree(root: int, answers: Sequence[Candidate]) -> tuple[list[int], list[int], list[list[int]]]:
    """Tokens, the parent of each (-1: none), and which of them write each answer. The last token of one is not read."""
    ids, parents, members = [root], [-1], []
    places: dict[tuple[int, int], int] = {}
    for answer in answers:
        at, path = 0, [0]
        for token in answer.ids[:-1]:
            if (at, token) not in places:
                places[at, token] = len(ids)
                ids.append(token)
                parents.append(at)
            at = places[at, token]
            path.append(at)
        members.append(path)
    return ids, parents, members


def _branches(parents: Sequence[int], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which positions each token of the tree sees, [tokens, length + tokens], and how deep each token stands."""
    own = torch.eye(len(parents), dtype=torch.bool)
    depths = torch.zeros(len(parents), dtype=torch.long)
    for at, parent in enumerate(parents):
        if parent >= 0:
            own[at] |= own[parent]
            depths[at] = depths[parent] + 1
    return torch.cat([torch.ones(len(parents), length, dtype=torch.bool), own], dim=1), depths


def _peaks(layer: LayerSignals, queries: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The largest weighted attention of any answer to each position, [kv heads, length]."""
    heads, _, dim = layer.keys.shape
    # the query heads of a KV head as more queries of it: to broadcast the keys would copy them
    grouped = queries.float().reshape(heads, -1, dim) * layer.scaling
    logits = grouped @ layer.keys.float().transpose(1, 2)
    if layer.softcap is not None:
        logits = torch.tanh(logits / layer.softcap) * layer.softcap
    shares = logits.softmax(dim=-1).view(heads, layer.groups, share.shape[1], -1)
    weights = shares.mean(dim=1)  # [kv heads, tokens, length]
    peaks = (share @ weights).amax(dim=1)
    return peaks / peaks.sum(dim=-1, keepdim=True).clamp(min=1e-12)
