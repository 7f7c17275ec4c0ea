"""An experiment: passages read apart, each once and for all questions, and their caches put together.

    python benchmarks/kv_apart.py FILE... [--contexts N] [--quick] [--json FILE]

Contexts and figures are those of kv.py. "alone": each passage is read by itself; "behind": behind the instructions, whose
first tokens draw attention. Both at the places they have in the prompt, so that joining them needs no rotation here;
turning keys that were kept for another place costs a multiplication each and is in the time. Then the question is read on
top. time: joining and reading the question, as a share of the full prefill. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from kv import Trial, benchmark_records, summary
from transformers import DynamicCache

from ragpool.kvcache import nbytes
from ragpool.kvcache.evicted import cropped, held_layers
from ragpool.kvcache.signals import rotate
from ragpool.models import local_model
from ragpool.settings import ModelSettings
from ragpool.training.needles import needle

States = list[tuple[torch.Tensor, torch.Tensor]]


def passages(trial: Trial) -> list[tuple[int, int]]:
    """The token range of each passage, title and marker included, in order."""
    found: dict[int, tuple[int, int]] = {}
    for piece, (start, end) in zip(trial.layout.pieces, trial.layout.spans, strict=True):
        if piece.passage is not None:
            found[piece.passage] = (found.get(piece.passage, (start, end))[0], end)
    return list(found.values())


def read_apart(trial: Trial, start: int, end: int, head: int) -> States:
    """Keys and values [1, kv heads, end - start, head dim] of one passage; ``head`` tokens before it are seen."""
    cache: Any = cropped(trial.cache, head) if head else DynamicCache(config=trial.model.config)
    with torch.inference_mode():
        trial.model(
            input_ids=torch.tensor([trial.layout.ids[start:end]]),
            position_ids=torch.arange(start, end)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return [(x.keys[..., head:, :].clone(), x.values[..., head:, :].clone()) for x in held_layers(cache)]


def apart(trial: Trial, *, behind: bool) -> dict[str, float]:
    """What the question finds in caches that were made apart, and the time from there on."""
    spans = passages(trial)
    head = spans[0][0]
    parts = [read_apart(trial, start, end, head if behind else 0) for start, end in spans]
    begun = time.process_time()
    joined: Any = DynamicCache(config=trial.model.config)
    with torch.inference_mode():
        for number, first in enumerate(held_layers(cropped(trial.cache, head))):
            still = torch.zeros(1, 1, first.keys.shape[-1])
            keys = [rotate(p[number][0], still.cos(), still.sin()) for p in parts]  # what a turn costs
            values = [p[number][1] for p in parts]
            joined.update(
                torch.cat([first.keys, *keys], dim=-2), torch.cat([first.values, *values], dim=-2), number
            )
        ids = trial.layout.ids[spans[-1][1] : len(trial.layout) - 1]
        trial.model(input_ids=torch.tensor([ids]), past_key_values=joined, use_cache=True, logits_to_keep=1)
    seconds = time.process_time() - begun
    return trial.compare(trial.answer_logits(joined)) | {"seconds": seconds, "bytes": nbytes(joined)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--contexts", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="two made-up texts of 700 tokens")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    local = local_model(ModelSettings(threads=1))
    assert local is not None
    records = (
        [needle(depth, 700, seed=depth) for depth in (2, 7)]
        if options.quick
        else benchmark_records(options.files, options.contexts)
    )
    rows: list[dict[str, Any]] = []
    for record in records:
        trial = Trial(local, record, heavy=False)
        methods = {name: {"all": apart(trial, behind=name == "behind")} for name in ("alone", "behind")}
        row = {"prefill": trial.prefill, "bytes": nbytes(trial.cache), "methods": methods}
        rows.append(row | {"with": trial.with_context, "without": trial.without})
        print(
            f"{len(rows)}/{len(records)} {record.id} {len(trial.layout)} tokens", file=sys.stderr, flush=True
        )
    table = {name: cells["all"] for name, cells in summary(rows).items()}
    print("| passages read | kept | KL | time |\n|---|---|---|---|")
    for name, cell in table.items():
        print(
            f"| {name} | {100 * cell['kept']:.0f} % | {cell['kl']:.2f} | {100 * cell['time_share']:.1f} % |"
        )
    text = json.dumps({"contexts": len(rows), "table": table})
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
