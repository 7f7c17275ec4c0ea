"""Retrieval heads: the few attention heads by which a model finds what a question asks for.

A table is made once for a model (``ragpool train heads``), and found again by the fingerprint of the model's shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from ragpool.errors import ModelError
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.signals import Signals

TABLE = 24  # heads of a table; a dozen had a KL a third higher on the ten calibration contexts


@dataclass(frozen=True, slots=True)
class HeadTable:
    """The heads (layer, query head), best first, of the models with this ``fingerprint``."""

    model: str
    fingerprint: str
    heads: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, path: Path) -> HeadTable:
        """Raises ModelError when the file is no head table."""
        try:
            return cls._from(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} is no table of heads ({type(error).__name__}); make one with 'ragpool train heads'"
            ) from error

    @classmethod
    def shipped(cls, fingerprint: str) -> HeadTable | None:
        """The table that comes with ragpool for a model of this shape; None when there is none."""
        folder = resources.files("ragpool.weights") / "heads"
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name.endswith(".json"):
                table = cls._from(file.read_text(encoding="utf-8"))
                if table.fingerprint == fingerprint:
                    return table
        return None

    @classmethod
    def find(cls, folder: Path, fingerprint: str) -> HeadTable | None:
        """The table in ``folder`` for a model of this shape; None when there is none.

        Raises ModelError for a file there that is no table.
        """
        tables = (cls.read(file) for file in sorted(folder.glob("*.json")))
        return next((table for table in tables if table.fingerprint == fingerprint), None)

    @classmethod
    def _from(cls, text: str) -> HeadTable:
        row = json.loads(text)
        return cls(row["model"], row["fingerprint"], tuple((int(a), int(b)) for a, b in row["heads"]))


def middle(signals: Signals) -> tuple[tuple[int, int], ...]:
    """Without a table: the heads of the middle third of the layers, where retrieval heads mostly are."""
    layers = signals.layers
    third = max(len(layers) // 3, 1)
    chosen = layers[third : 2 * third] or layers
    return tuple((layer.index, head) for layer in chosen for head in range(layer.queries.shape[0]))


def sentence_attention(
    layout: PromptLayout, signals: Signals, heads: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """How the question's tokens attend to each sentence in each head: [heads, sentences], each row summing to 1.

    A token of the question counts for a sentence by the sentence's most attended token: what retrieves is a peak,
    and sums favour long sentences.
    """
    first = layout.question[0] - (signals.length - signals.window)
    last = min(layout.question[1], signals.length) - (signals.length - signals.window)
    spans = [layout.spans[i] for i in layout.sentences]
    wanted: dict[int, list[int]] = {}
    for index, head in heads:
        wanted.setdefault(index, []).append(head)
    rows: dict[tuple[int, int], torch.Tensor] = {}
    for layer in signals.layers:
        if layer.index in wanted:
            weights = layer.only(wanted[layer.index]).attention(first, last).flatten(0, 1)
            peaks = torch.stack([weights[..., start:end].amax(dim=-1) for start, end in spans], dim=-1)
            rows |= {
                (layer.index, h): row for h, row in zip(wanted[layer.index], peaks.mean(dim=1), strict=True)
            }
    scores = torch.stack([rows[index, head] for index, head in heads])
    return scores / scores.sum(dim=-1, keepdim=True).clamp(min=1e-12)


def position_attention(
    layout: PromptLayout, signals: Signals, heads: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """How much each position is looked at in the heads by the tokens from the question on, [length], averaged over heads.

    Each position counts by the token that looks at it most; each head's share sums to 1.
    """
    first = layout.question[0] - (signals.length - signals.window)
    by_layer = {layer.index: layer for layer in signals.layers}
    total = torch.zeros(signals.length, device=signals.layers[0].keys.device)
    for index in dict.fromkeys(index for index, _ in heads):
        peaks = by_layer[index].attention(first, signals.window).flatten(0, 1).amax(dim=1)
        peaks = peaks / peaks.sum(dim=-1, keepdim=True)
        for layer, head in heads:
            if layer == index:
                total += peaks[head]
    return total / len(heads)
