"""How many positions each head keeps of one budget."""

from __future__ import annotations

import math

import torch

from ragpool.kvcache.allotment import allotted


def scored(*peaks: int, length: int = 200, fixed: int = 10) -> list[torch.Tensor]:
    """Layers of two heads; of each head so many positions are looked at, and ``fixed`` always kept."""
    rows = torch.zeros(len(peaks), length)
    for row, count in zip(rows, peaks, strict=True):
        row[:fixed] = math.inf
        row[fixed : fixed + count] = 1 / count
    return list(rows.split(2))


def test_the_heads_that_copy_hold_three_times_the_room() -> None:
    layers = scored(*[40] * 20)
    copying = [torch.zeros(2) for _ in layers]
    copying[3][1], copying[7][0] = 0.3, 0.2
    counts = torch.stack(allotted(layers, copying, 30, 10))

    assert counts[3, 1] == counts[7, 0] == 10 + 3 * 20
    assert counts.sum() == 30 * 20


def test_the_others_hold_what_they_look_at() -> None:
    layers = scored(5, 100, 8, 20)
    counts = torch.cat(allotted(layers, [torch.zeros(2)] * 2, 30, 10))

    assert counts.sum() == 30 * 4
    assert counts.min() >= 10
    assert counts[0] < counts[3] <= counts[1]


def test_no_head_holds_more_than_there_is() -> None:
    layers = scored(*[40] * 20)
    counts = torch.cat(allotted(layers, [torch.ones(2)] * 10, 150, 10))

    assert counts.max() <= 200
    assert counts.sum() == 150 * 20


def test_two_heads_or_no_room_leave_equal_shares() -> None:
    layers = scored(30, 50)

    assert allotted(layers, [torch.tensor([0.5, 0.1])], 40, 10)[0].tolist() == [40, 40]
    assert allotted(layers, [torch.tensor([0.5, 0.1])], 10, 10)[0].tolist() == [10, 10]
    assert allotted(layers, [torch.tensor([0.5, 0.1])], 200, 10)[0].tolist() == [200, 200]
