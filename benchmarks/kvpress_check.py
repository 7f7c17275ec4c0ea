"""Do our methods keep the positions that kvpress keeps? The same tiny random model and prompt, in two environments.

    python benchmarks/kvpress_check.py [--env FOLDER] [--json FILE]

kvpress 0.5.5 needs transformers below 5.3, so it is installed with uv into an environment of its own (FOLDER, else a
temporary one; some hundred MB). For each method that both have, the share of kept positions that are the same, over
layers and heads, at three ratios. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from ragpool.kvcache import METHODS, PromptLayout, Signals
from ragpool.kvcache.signals import probed

RATIOS = (0.25, 0.5, 0.75)
LENGTH = 300
PACKAGES = ("kvpress==0.5.5", "transformers<5.3")
PRESSES = {
    "knorm": "KnormPress",
    "snapkv": "SnapKVPress",
    "tova": "TOVAPress",
    "streaming": "StreamingLLMPress",
    "keydiff": "KeyDiffPress",
    "expected": "ExpectedAttentionPress",
}

# Runs in the other environment: scores of each press, as [layer][kv head][position].
THEIRS = """
import json, sys, torch, kvpress
from transformers import AutoModelForCausalLM, DynamicCache
folder, wanted, ratios = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.tensor([json.load(open(folder + "/ids.json"))])
found = {}
for name, class_name in wanted.items():
    for ratio in ratios:
        press = getattr(kvpress, class_name)(compression_ratio=ratio)
        scores, original = [], press.score
        def score(*args, **options):
            values = original(*args, **options)
            scores.append(values[0])
            return values
        press.score = score
        with torch.no_grad(), press(model):
            model(ids, past_key_values=DynamicCache())
        kept = int(ids.shape[1] * (1 - ratio))
        found[f"{name}:{ratio}"] = [layer.topk(kept, dim=-1).indices.tolist() for layer in scores]
print(json.dumps(found))
"""


def tiny_model(folder: Path) -> tuple[LlamaForCausalLM, list[int]]:
    """A random Llama with grouped heads, saved in ``folder`` with the prompt's ids."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    ids = torch.randint(0, 256, (LENGTH,)).tolist()
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    return model, ids


def ours(model: Any, ids: list[int]) -> dict[str, list[torch.Tensor]]:
    """Kept positions of our methods, [kv heads, kept] a layer."""
    cache = DynamicCache(config=model.config)
    with torch.inference_mode(), probed(model, None) as probe:
        model(torch.tensor([ids]), past_key_values=cache)
        signals = Signals.of(cache, probe)
    nowhere = PromptLayout(tuple(ids), (), ())
    found = {}
    for name in PRESSES:
        for ratio in RATIOS:
            kept = int(len(ids) * (1 - ratio))
            importance = METHODS[name]().select(nowhere, signals, kept)
            found[f"{name}:{ratio}"] = [scores.topk(kept, dim=-1).indices for scores in importance.layers]
    return found


def theirs(folder: Path, environment: Path) -> dict[str, list[list[list[int]]]]:
    python = environment / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        torch_version = torch.__version__.partition("+")[0]
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, "pip"], check=True)
        # torch first and by pip: it takes the CPU build where the machine has one (see the Makefile)
        torch_itself = f"torch=={torch_version}"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", torch_itself], check=True)
        subprocess.run([*install, torch_itself, *PACKAGES], check=True)
    command = [str(python), "-c", THEIRS, str(folder), json.dumps(PRESSES), json.dumps(RATIOS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, list[list[list[int]]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def same(a: list[torch.Tensor], b: list[list[list[int]]]) -> float:
    """Share of kept positions that both keep."""
    pairs = [
        (set(x.tolist()), set(y))
        for first, second in zip(a, b, strict=True)
        for x, y in zip(first, second, strict=True)
    ]
    return sum(len(x & y) for x, y in pairs) / sum(len(x) for x, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model, ids = tiny_model(Path(scratch))
        reference = theirs(Path(scratch), options.env or Path(scratch) / "env")
        kept = ours(model, ids)
    shares = {name: round(same(kept[name], reference[name]), 4) for name in reference}
    for name, share in shares.items():
        print(f"{name:18} {share:.1%} of the kept positions are the same")
    result = {"kvpress": PACKAGES[0], "same": shares, "least": min(shares.values())}
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
