"""How many positions each head keeps when all heads share one budget.

The heads that copy (copying.py) hold three times the room of an equal share: what they look for may stand anywhere, and
whatever they lack is lost. What is left goes to the other heads by what they look at: the highest scores of all
of them together are kept (Ada-KV, arXiv 2407.11550, does this within a layer). None goes without: what every head
keeps, instructions, question and whole sentences, scores highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_COPYING = 0.1  # share of a model's heads that count as copying
_TIMES = 3.0  # their room, in equal shares


def allotted(
    layers: Sequence[torch.Tensor], copying: Sequence[torch.Tensor], keep: int, fixed: int
) -> tuple[torch.Tensor, ...]:
    """How many positions each head keeps, a layer [kv heads]; ``keep`` on average.

    ``layers``: the scores [kv heads, length], of which ``fixed`` are +inf in each head; the room is what comes on top.
    ``copying``: how much each head copies, a layer [kv heads].
    """
    scores, copies = torch.cat(list(layers)), torch.cat(list(copying))
    heads, length = scores.shape
    counts = torch.full((heads,), keep, device=scores.device)
    others = torch.ones_like(counts, dtype=torch.bool)
    if copies.max() > 0:
        number = max(round(_COPYING * heads), 1)
        times = min(_TIMES, heads / (2 * number))  # of few heads, half at most for these
        most = copies.topk(number).indices
        counts[most] = min(fixed + int(times * (keep - fixed)), length)
        others[most] = False
    left = keep * heads - int(counts[~others].sum())
    rest = int(others.sum())
    if rest:
        kept = scores[others].flatten().topk(left, sorted=False).indices // length
        counts[others] = torch.bincount(kept, minlength=rest)
    return tuple(torch.split(counts, [len(layer) for layer in layers]))
