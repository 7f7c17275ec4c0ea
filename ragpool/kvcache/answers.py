"""What the model would look at while it writes an answer, asked before anything is evicted.

An answer's tokens look at other positions than the question's do. Which answer it will be is not known, but it is mostly
a name or a number of a good sentence. All of these are read behind the prompt in one pass, as branches of one tree
(at most TREE tokens), and each position counts by the answer that looks at it most.
With the true answers' queries in place of these guesses, a quarter of the cache told as much as all of it on ten
MuSiQue contexts; with the question's queries alone, half as much.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AttentionInterface

from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.lexical import words
from ragpool.kvcache.signals import LayerSignals, Signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION = "ragpool_tree"  # the name under which transformers finds _attend

# a capitalised word or a number, and what goes on in the same way: "Bank of England", "16 August 1967", "2,913,123"
_WORD = r"(?:[A-Z][\w'’-]*|\d[\w.,'’-]*\w|\d)"
NAME = re.compile(rf"{_WORD}(?:(?: |, | of | the | of the | de | and ){_WORD})*")
_NUMBER_ASKED = re.compile(
    r"\b(when|how (many|much|old|long)|what (year|date|day)|number|population|born|died)\b", re.I
)
_EITHER = re.compile(r"\bor\b", re.I)
SENTENCES, TREE, LONGEST = (
    24,
    36,
    4,
)  # the best sentences; tokens of the tree beside its root; tokens of one answer


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer that the context offers: its tokens, and the score of the best sentence that has it."""

    ids: tuple[int, ...]
    weight: float


def candidates(layout: PromptLayout, scores: Sequence[float]) -> list[Candidate]:
    """Names and numbers of the sentences with the highest ``scores``, as many as TREE tokens can write.

    Those that the question holds itself are left out, unless it asks which of two it is: then they come first. Where a
    number is asked for, numbers come first.
    """
    if not layout.starts:
        return []
    asked = set(words(layout.question_text))
    either = _EITHER.search(layout.question_text) is not None
    number = _NUMBER_ASKED.search(layout.question_text) is not None
    found: dict[tuple[int, ...], tuple[bool, float]] = {}
    ranked = sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1]))
    for score, index in ranked[:SENTENCES]:
        for match in NAME.finditer(layout.pieces[index].text):
            told = set(words(match[0]))
            if told and (either or not told <= asked):
                first = layout.piece_starts[index] + match.start()
                ids = _tokens(layout, first, first + len(match[0]))
                digits = any(c.isdigit() for c in match[0])
                fits = told <= asked if either else digits or not number
                found.setdefault(ids, (fits, score))
    chosen: list[Candidate] = []
    tree: set[tuple[int, ...]] = set()
    for ids, (_, score) in sorted(
        found.items(), key=lambda item: not item[1][0]
    ):  # stable: the best sentences first
        tree |= {ids[:end] for end in range(1, len(ids))}
        if len(tree) > TREE:
            break
        chosen.append(Candidate(ids, score))
    return chosen


def _tokens(layout: PromptLayout, first: int, last: int) -> tuple[int, ...]:
    """The tokens of the characters ``first``..``last``; a token may begin with the space before its word."""
    begin = max(bisect_right(layout.starts, first) - 1, 0)
    return layout.ids[begin : min(bisect_left(layout.starts, last), begin + LONGEST)]


def looked_at(
    model: PreTrainedModel, layout: PromptLayout, signals: Signals, answers: Sequence[Candidate]
) -> tuple[torch.Tensor, ...] | None:
    """Attention to each cached position while one of ``answers`` is written, a layer [kv heads, length], each row summing to 1.

    ``signals`` are those of the prompt but for its last token. None where a layer has a sliding window: there the tree
    cannot be read in one pass. Hold the model's lock: its attention is another one meanwhile.
    """
    config: Any = model.config
    layers = {layer.index: layer for layer in signals.layers}
    if not answers or len(layers) < config.get_text_config(decoder=True).num_hidden_layers:
        return None
    ids, parents, members = _tree(layout.ids[signals.length], answers)
    visible, depths = _branches(parents)
    share = torch.zeros(len(answers), len(ids))
    for row, (answer, tokens) in enumerate(zip(answers, members, strict=True)):
        share[row, tokens] = answer.weight / len(tokens)
    device = signals.layers[0].keys.device
    reading = _Reading(layers, ~visible.to(device), share.to(device))
    usual = config._attn_implementation
    config._attn_implementation = _ATTENTION
    try:
        cast(Any, model).get_decoder()(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=visible.to(device)[None, None],
            position_ids=(signals.length + depths).to(device)[None],
            use_cache=False,
            reading=reading,
        )
    finally:
        config._attn_implementation = usual
    return tuple(reading.peaks[layer.index] for layer in signals.layers)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the attention of one pass needs: the prompt, which tokens do not see which (True), the answers' shares of
    them [answers, tokens]; and what it finds."""

    layers: Mapping[int, LayerSignals]
    hidden: torch.Tensor
    share: torch.Tensor
    peaks: dict[int, torch.Tensor] = field(default_factory=dict)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    reading: _Reading,
    scaling: float | None = None,
    softcap: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention over prompt and tree, of which only the tree is given.

    Unlike theirs it neither joins the prompt's keys to new ones nor repeats them for each query head, and leaves the
    largest weighted attention of any answer to each position of the prompt in ``reading.peaks``.
    """
    layer = reading.layers[int(module.layer_idx)]
    heads, length, dim = layer.keys.shape
    tokens = query.shape[2]
    grouped = query[0].float().reshape(heads, -1, dim) * (layer.scaling if scaling is None else scaling)
    logits = grouped.new_empty(heads, grouped.shape[1], length + tokens)
    torch.bmm(grouped, layer.keys.float().transpose(1, 2), out=logits[..., :length])
    torch.bmm(grouped, key[0].float().transpose(1, 2), out=logits[..., length:])
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logits.view(heads, -1, tokens, length + tokens)[..., length:].masked_fill_(reading.hidden, -math.inf)
    weights = logits.softmax(dim=-1)
    prompt, tree = weights[..., :length], weights[..., length:]
    written = prompt @ layer.values.float() + tree @ value[0].float()
    outside = 1 - tree.sum(dim=-1)  # what the prompt gets of each token's attention
    seen = reading.share.repeat(1, layer.groups) / (layer.groups * outside.clamp(min=1e-12)[:, None])
    peaks = (seen @ prompt).amax(dim=1)
    reading.peaks[layer.index] = peaks / peaks.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return written.view(1, -1, tokens, dim).transpose(1, 2).to(query.dtype), None


AttentionInterface.register(_ATTENTION, _attend)


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


def _branches(parents: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens of the tree each of them sees [tokens, tokens], and how deep each stands."""
    own = torch.eye(len(parents), dtype=torch.bool)
    depths = torch.zeros(len(parents), dtype=torch.long)
    for at, parent in enumerate(parents):
        if parent >= 0:
            own[at] |= own[parent]
            depths[at] = depths[parent] + 1
    return own, depths
