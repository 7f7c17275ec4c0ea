"""Several prompts decoded together, in left-padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ragpool.models.decoding import Sampler, Transcript
from ragpool.models.prefix import SHORTEST

if TYPE_CHECKING:
    import torch
    from transformers import Cache

BATCH_TOKENS = 8192  # padded prompt tokens of one batch: bounds its memory


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a batch."""

    prompt: str
    ids: list[int]
    transcript: Transcript
    sampler: Sampler


class Forward(Protocol):
    """A forward pass: logits [batch, kept, vocabulary] for inputs [batch, new]; extends ``cache``."""

    def __call__(
        self, inputs: torch.Tensor, *, cache: Cache, logits_to_keep: int = 0, **masks: Any
    ) -> torch.Tensor: ...


def groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows of similar length together, at most BATCH_TOKENS padded prompt tokens a group."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
        if group and len(group[0].ids) * (len(group) + 1) > BATCH_TOKENS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def common_prefix(group: Sequence[Row]) -> list[int]:
    """The tokens with which every prompt of several begins, its last one left out; empty when few."""
    first, last = min(row.ids for row in group), max(row.ids for row in group)
    shared = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    most = min(len(row.ids) for row in group) - 1
    tokens = most if shared is None else min(shared, most)
    return first[:tokens] if len(group) > 1 and tokens >= SHORTEST else []


def decode(group: Sequence[Row], forward: Forward, cache: Cache, known: int) -> None:
    """Fill the transcripts. ``cache`` holds the first ``known`` tokens, which all prompts share, once a row."""
    import torch

    width = max(len(row.ids) for row in group) - known
    pads = [width - len(row.ids) + known for row in group]
    inputs = torch.tensor([[0] * pad + row.ids[known:] for pad, row in zip(pads, group, strict=True)])
    mask = torch.tensor([[1] * known + [0] * pad + [1] * (width - pad) for pad in pads])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, known:]
    live = list(group)
    while True:
        logits = forward(inputs, cache=cache, logits_to_keep=1, attention_mask=mask, position_ids=positions)
        picked = [row.sampler.pick(logits[at, -1]) for at, row in enumerate(live)]
        for row, pick in zip(live, picked, strict=True):
            row.transcript.add(pick)
        running = [at for at, row in enumerate(live) if row.transcript.finish_reason is None]
        if not running:
            return
        if len(running) < len(live):  # finished rows leave the batch
            keep = torch.tensor(running)
            cache.batch_select_indices(keep)
            mask, positions = mask[keep], positions[keep]
            live, picked = [live[at] for at in running], [picked[at] for at in running]
        inputs = torch.tensor([[pick.token] for pick in picked])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        positions = positions[:, -1:] + 1
