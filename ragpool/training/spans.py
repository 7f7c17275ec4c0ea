"""The span reader: the embedded sentence encoder's upper layers, trained to point at the answer or at nothing.

The same samples as the reader adapter's, and the look-ups and questions that only this one was trained on; it costs a
tenth of the adapter's time a sample. Loss: the log-probability of all the places where the answer stands
(arXiv 1710.10723, section 4.1, "sum" over occurrences).
"""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import InputError, ModelError
from ragpool.models import local_model
from ragpool.models.embedder import read_folder
from ragpool.models.resolve import EMBEDDED, resolve
from ragpool.models.spans import Encoded, SpanModel, add_deltas, deltas, encode, log_probabilities, shown
from ragpool.plan import adapter_folder
from ragpool.settings import ModelSettings
from ragpool.slots import NONE, TOLD, Calibration, PairReader, Weighing, log_sum
from ragpool.training import lora, mined, statements, written
from ragpool.training.cards import SPANS_CARD, write_card
from ragpool.training.data import TWOWIKI, Record, dev_split, read_records, training_split
from ragpool.training.reader import OTHER_WORLDS, Row, fit_calibration, score
from ragpool.training.readings import FULL, LOOKUP, Item, Sample, examples, is_rare, questions

if TYPE_CHECKING:
    import torch

Log = Callable[[str], None]
Spans = list[tuple[int, int]]

FROZEN = 2  # lower layers that stay as they are
SIZES = {
    (TWOWIKI, LOOKUP): 500,
    (TWOWIKI, FULL): 150,
    (OTHER_WORLDS, LOOKUP): 1200,
    (OTHER_WORLDS, FULL): 300,
}
LOOKUPS, BACKWARD, MINED, MADE_UP = 5000, 2000, 1500, 300  # of each in an epoch
EPOCHS = 1.0
RATE = 2e-4
BATCH_TOKENS = 3072
CHECKPOINT = 200  # steps between two
SHARES = (0.5, 1.0, 1.5, 2.0)
DOUBTS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
WRITTEN_ASKED = 200  # look-ups written on held-out paragraphs, and half as many questions, that are measured
OFTEN_TOLD = (
    0.75  # the share of what the loop asks that the passages tell; of what is measured here it is less
)


def train(
    files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    epochs: float = EPOCHS,
    start: Path | None = None,
    threads: int = 2,
    log: Log,
) -> dict[str, Any]:
    """Train the span reader on the training split of ``files``, measure it on the dev split, write its card.

    It goes on from the span reader in the folder ``start``, else from the encoder as it is. Every epoch draws anew: other
    near misses, other answers left out. An interrupted run goes on from its last checkpoint in ``out``. Returns all figures.
    Raises InputError for less than some epochs, ModelError when ``start`` holds no span reader.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    if epochs <= 0:
        raise InputError(f"--epochs {epochs:g}: give a number above 0")
    encoder, tokenizer, base = load_base()
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    head = torch.nn.Linear(encoder.config.hidden_size, 2)
    if start is not None:
        go_on_from(start, encoder, head)
    records = training_split(read_records(files))
    log("drawing samples")
    drawn = [
        prepared(samples(records, random.Random(f"{seed}-{epoch}")), tokenizer)
        for epoch in range(math.ceil(epochs))
    ]
    drawn[-1] = drawn[-1][: int(len(drawn[-1]) * (epochs % 1 or 1))]
    out.mkdir(parents=True, exist_ok=True)
    figures = fit(encoder, head, drawn, out / "checkpoint.pt", seed=seed, log=log)
    figures["recipe"] |= {"epochs": epochs, "start": "the encoder" if start is None else "a span reader"}
    save(out, deltas(before, dict(encoder.named_parameters())), head, base)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    figures["bytes"] = (out / "model.safetensors").stat().st_size
    log("measuring on the dev split")
    return write_card(SPANS_CARD, files, out, figures, evaluate(files, out, seed=seed))


def load_base() -> tuple[Any, Any, str]:
    """(encoder, tokenizer, version) of the embedded sentence encoder, in float32."""
    import torch

    found = resolve(EMBEDDED, ModelSettings(), "embedder")
    encoder, tokenizer = read_folder(Path(found.location), torch.float32, torch.device("cpu"))
    return encoder, tokenizer, found.version


def samples(records: Sequence[Record], rng: random.Random) -> list[Sample]:
    """What one epoch shows: every look-up and question written by hand, gold ones, some mined and made up."""
    made = (
        examples(records, rng, SIZES, first=is_rare)
        + written.examples(records, LOOKUPS, rng)
        + written.examples(records, BACKWARD, rng, written.BACKWARD)
        + written.whole_paragraphs(records, rng)
        + written.chained(records, rng)
        + mined.examples(records, MINED, rng)
        + statements.examples(MADE_UP, rng)
    )
    rng.shuffle(made)
    return made


def prepared(drawn: Sequence[Sample], tokenizer: Any) -> list[tuple[Encoded, Spans]]:
    """The samples that fit one sequence as tokens, each with the (first, last) tokens of its answer wherever it stands."""
    ready = []
    for sample in drawn:
        encoded = next(encode(tokenizer, sample.query, sample.contexts))
        answer = [(0, 0)] if sample.target == NONE else places_of(sample.target, sample.contexts, encoded)
        if answer:
            ready.append((encoded, answer))
    return ready


def places_of(target: str, contexts: Sequence[tuple[str, str]], encoded: Encoded) -> Spans:
    """Where ``target`` stands as whole words: (first, last) tokens."""
    if target.casefold() in ("yes", "no"):
        at = 0 if target.casefold() == "yes" else 4
        return [(n, n) for n, place in enumerate(encoded.places) if place[:2] == (len(contexts), at)]
    whole = re.compile(rf"(?<![^\W_]){re.escape(target)}(?![^\W_])", re.IGNORECASE)
    found: Spans = []
    for number, context in enumerate(contexts):
        for match in whole.finditer(shown(context)):
            start, end = match.span()
            covered = [
                n for n, (c, a, b) in enumerate(encoded.places) if c == number and a < end and b > start
            ]
            if covered:
                found.append((covered[0], covered[-1]))
    return found


def go_on_from(folder: Path, encoder: Any, head: torch.nn.Linear) -> None:
    """Give the encoder and the head the weights of the span reader in ``folder``. Raises ModelError."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / "model.safetensors")
        add_deltas(encoder, tensors)
        with torch.no_grad():
            head.weight.copy_(tensors["head.weight"])
            head.bias.copy_(tensors["head.bias"])
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: no span reader to go on from ({error})") from error


def fit(
    encoder: Any,
    head: torch.nn.Linear,
    epochs: Sequence[Sequence[tuple[Encoded, Spans]]],
    checkpoint: Path,
    *,
    seed: int,
    log: Log,
) -> dict[str, Any]:
    """Train ``encoder`` and ``head`` in place; figures of the run."""
    import torch

    for part in (encoder.embeddings, *encoder.encoder.layer[:FROZEN]):
        part.requires_grad_(False)
    trained = [p for p in (*encoder.parameters(), *head.parameters()) if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    rng = random.Random(seed)
    batches = [
        (epoch, batch)
        for epoch in epochs
        for batch in lora.batches([len(encoded.ids) for encoded, _ in epoch], BATCH_TOKENS, rng, jitter=10)
    ]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, len(batches)))
    done, seconds = 0, 0.0
    recent: list[float] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["steps"] == len(batches):
            for weight, value in zip(trained, saved["weights"], strict=True):
                weight.data.copy_(value)
            optimiser.load_state_dict(saved["optimiser"])
            schedule.load_state_dict(saved["schedule"])
            done, seconds = saved["done"], saved["seconds"]
            log(f"resumed after step {done}")
    encoder.train()
    began = time.monotonic() - seconds
    for step, (epoch, batch) in enumerate(batches[done:], start=done + 1):
        loss = _loss(encoder, head, [epoch[n] for n in batch])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        recent = [*recent[-99:], loss.item()]
        if step % 20 == 0:
            log(
                f"step {step}/{len(batches)} loss {sum(recent) / len(recent):.3f}, {time.monotonic() - began:.0f} s"
            )
        if step % CHECKPOINT == 0:
            state = {
                "steps": len(batches), "done": step, "seconds": time.monotonic() - began,
                "weights": [w.detach() for w in trained],
                "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict(),
            }  # fmt: skip
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
    encoder.eval()
    return {
        "recipe": {"seed": seed, "rate": RATE, "batch_tokens": BATCH_TOKENS, "frozen": FROZEN},
        "examples": [len(epoch) for epoch in epochs],
        "tokens": [sum(len(encoded.ids) for encoded, _ in epoch) for epoch in epochs],
        "losses": [round(sum(recent) / max(1, len(recent)), 4)],
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def save(out: Path, tensors: dict[str, torch.Tensor], head: torch.nn.Linear, base: str) -> None:
    """Write ``model.safetensors`` and ``config.json``."""
    import hashlib

    from safetensors.torch import save, save_file

    whole = {**tensors, "head.weight": head.weight.detach(), "head.bias": head.bias.detach()}
    version = hashlib.sha256(save(whole)).hexdigest()[:12]
    save_file(whole, str(out / "model.safetensors"), metadata={"format": "pt"})
    config = {"base": base, "version": version}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _rate(step: int, total: int) -> float:
    """Linear warm-up over a fifteenth of the run, then linear decay to a fiftieth of the peak."""
    warm = max(1, total // 15)
    return (step + 1) / warm if step < warm else max(0.02, (total - step) / max(1, total - warm))


def _loss(encoder: Any, head: Any, batch: Sequence[tuple[Encoded, Spans]]) -> torch.Tensor:
    import torch

    def padded(rows: Sequence[list[int]]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)

    hidden = encoder(
        input_ids=padded([encoded.ids for encoded, _ in batch]),
        token_type_ids=padded([encoded.types for encoded, _ in batch]),
        attention_mask=padded([[1] * len(encoded.ids) for encoded, _ in batch]),
    ).last_hidden_state
    first, last = log_probabilities(head(hidden), [encoded for encoded, _ in batch])
    total = torch.zeros(())
    for row, (_, answer) in enumerate(batch):
        begins, ends = torch.tensor(answer).T
        total = total - torch.logsumexp(first[row, begins] + last[row, ends], 0)
    return total / len(batch)


# --- evaluation


def evaluate(files: Sequence[Path], folder: Path, *, seed: int = 0, limit: int = 30) -> dict[str, Any]:
    """Figures on the dev split by data set and kind, as ``reader.evaluate`` gives them: of the span model alone, and of it
    and the reader adapter together, as they are used. Writes ``weighing.json``, fitted on the same questions.

    The adapter is the one in ``reader`` beside ``folder``, else the shipped one.
    """
    beside = folder.parent / "reader"
    model = SpanModel.load(folder, ModelSettings())
    local = local_model(ModelSettings())
    assert local is not None  # the embedded model is always local
    plain = Weighing(1.0, 0.0, Calibration())
    adapter = beside if beside.is_dir() else adapter_folder("reader")
    pair = PairReader(model, local, folder, adapter, weighing=plain)
    held_out = dev_split(read_records(files))
    asked = questions(held_out, random.Random(seed), limit)
    asked += written.held_out(held_out, random.Random(seed), WRITTEN_ASKED)
    readings = []
    for item, contexts, target in asked:
        proposed, _ = pair.proposals(item.query, contexts)
        heard, _ = pair.heard(item.query, contexts, list(proposed))
        readings.append(_Both(item, target, proposed, heard))
    weighing, figures = fit_weighing(readings)
    _write_weighing(folder, weighing)
    return {
        "spans alone": score([_row(r, r.proposed, plain) for r in readings])[0],
        "adapter alone": score([_row(r, r.heard, plain) for r in readings])[0],
        "both": figures,
        "weighing": {"share": weighing.share, "doubt": weighing.doubt},
    }


def fit_weighing(readings: Sequence[_Both]) -> tuple[Weighing, dict[str, Any]]:
    """The weighing that is right most often where OFTEN_TOLD of what is asked is told, and the figures with it."""
    plain = Calibration()
    best = max(
        (Weighing(share, doubt, plain) for share in SHARES for doubt in DOUBTS),
        key=lambda w: _worth([_row(r, w.weights(r.proposed, r.heard), w) for r in readings]),
    )
    rows = [_row(r, best.weights(r.proposed, r.heard), best) for r in readings]
    told = [row.target != NONE for row in rows]
    rarer = (1 - OFTEN_TOLD) / OFTEN_TOLD * sum(told) / max(1, len(told) - sum(told))
    valued = [
        (row.logprob, known and row.f1 >= 0.5, 1.0 if known else rarer)
        for row, known in zip(rows, told, strict=True)
        if row.value is not None
    ]
    curve = fit_calibration([(x, ok) for x, ok, _ in valued], [w for _, _, w in valued])
    return Weighing(best.share, best.doubt, curve), score(rows)[0]


def _worth(rows: Sequence[Row]) -> float:
    """F1 where OFTEN_TOLD of what is asked is told; each sort of look-ups and questions counts the same."""
    groups: dict[tuple[str, str, bool], list[float]] = {}
    for row in rows:
        sort = (row.item.record.dataset, row.item.kind, row.target == NONE)
        groups.setdefault(sort, []).append(row.f1)
    return sum(
        (1 - OFTEN_TOLD if none else OFTEN_TOLD) * sum(f1) / len(f1) for (_, _, none), f1 in groups.items()
    )


@dataclass(frozen=True, slots=True)
class _Both:
    """What both readers make of a question."""

    item: Item
    target: str
    proposed: Mapping[str, float]
    heard: Mapping[str, float]


def _row(both: _Both, weights: Mapping[str, float], weighing: Weighing) -> Row:
    value, logprob, told = weighing.likeliest(weights)
    if told < TOLD:
        value, logprob = None, weights[NONE] - log_sum(weights.values())
    return Row(both.item, both.target, value, logprob)


def _write_weighing(folder: Path, weighing: Weighing) -> None:
    curve = weighing.curve
    written_down = {
        "share": weighing.share,
        "doubt": weighing.doubt,
        "slope": curve.slope,
        "offset": curve.offset,
    }
    (folder / "weighing.json").write_text(json.dumps(written_down) + "\n", encoding="utf-8")
