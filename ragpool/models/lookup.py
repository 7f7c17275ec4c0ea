"""Drafts by prompt lookup: what followed the last tokens the time before, to be checked in one forward pass.

Inference with reference, Yang et al., arXiv 2304.04487: an answer over passages copies names from them, and one pass
over several tokens costs less than a pass for each.
"""

from __future__ import annotations

from collections.abc import Sequence

MATCH = 3  # tokens that must have stood there before; a draft after two is taken too seldom to pay
MOST = 5  # tokens of a draft


def draft(ids: Sequence[int], most: int = MOST) -> list[int]:
    """At most ``most`` tokens that may follow ``ids``: those that followed the last MATCH of them the time before.

    Empty where these did not occur before.
    """
    if most < 1 or len(ids) <= MATCH:
        return []
    *before, last = ids[-MATCH:]
    for at in range(len(ids) - 2, MATCH - 2, -1):
        if ids[at] == last and list(ids[at - MATCH + 1 : at]) == before:
            return list(ids[at + 1 : at + 1 + most])
    return []
