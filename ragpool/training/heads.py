"""Retrieval heads of a model: which of its attention heads look at the evidence when a question is asked.

Each head ranks the sentences of a context by how the question's tokens attend to them; the heads with the highest mean
average precision are the table. With data sets, evidence is what they call supporting, among paragraphs of other
questions; without any, it is a made-up fact in made-up text, so that any model can be calibrated without labels.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ragpool.errors import ModelError
from ragpool.kvcache.layout import Kind, Piece, PromptLayout
from ragpool.models import LocalModel, local_model
from ragpool.settings import ModelSettings
from ragpool.training.data import Paragraph, Record, read_records, training_split
from ragpool.training.needles import DEPTHS, needle

if TYPE_CHECKING:
    import torch

CONTEXTS = 16
TOKENS = 1300  # of a context: heads found at this length serve longer ones, and it takes seconds to read
INSTRUCTION = "Answer the question from the passages below. Answer in as few words as possible."


def train(
    files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
    model: str = "embedded",
    contexts: int = CONTEXTS,
    settings: ModelSettings | None = None,
) -> dict[str, Any]:
    """Write the head table of ``model`` to ``out``/<model>.json; returns its figures.

    ``files``: data sets, of which the training split is used; none for made-up text. Raises ModelError for a model
    that is not local.
    """
    chosen = (settings or ModelSettings()).model_copy(update={"chat": model})
    local = local_model(chosen)
    if local is None:
        raise ModelError(f"{model} is a remote model: only a local one has heads to look at")
    records = _records(files, contexts, seed)
    heads, precisions, fingerprint = calibrated(local, records, log)
    name = local.name.replace("/", "-")
    figures = {
        "contexts": len(records),
        "evidence": "made-up facts" if not files else "supporting sentences of the training split",
        "precision": round(sum(precisions) / len(precisions), 3),
        "best": round(precisions[0], 3),
        "seed": seed,
    }
    table = {"model": local.version, "fingerprint": fingerprint, "heads": heads, "figures": figures}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(table) + "\n", encoding="utf-8")
    return figures


def calibrated(
    local: LocalModel, records: Sequence[Record], log: Callable[[str], None]
) -> tuple[list[list[int]], list[float], str]:
    """The best heads as [layer, head], best first, their mean average precision, and the model's fingerprint."""
    import torch
    from transformers import DynamicCache

    from ragpool.kvcache.compress import read
    from ragpool.kvcache.heads import TABLE, sentence_attention
    from ragpool.kvcache.signals import Signals

    model: Any = local._model
    totals: dict[tuple[int, int], float] = {}
    signals: Signals | None = None
    counted = 0
    for number, record in enumerate(records, start=1):
        layout, gold = prompt(local, record)
        if not gold or len(layout) > local.max_context:
            continue
        cache = DynamicCache(config=model.config)
        with local._lock:
            probe = read(model, layout, cache)
        with torch.inference_mode():
            signals = Signals.of(cache, probe)
            names = [(layer.index, h) for layer in signals.layers for h in range(layer.queries.shape[0])]
            scores = sentence_attention(layout, signals, names)
        counted += 1
        for name, row in zip(names, scores, strict=True):
            totals[name] = totals.get(name, 0.0) + average_precision(row, gold)
        log(f"context {number} of {len(records)}: {len(layout)} tokens")
    if signals is None:
        raise ModelError(
            "no context could be used to calibrate heads; give data sets with supporting facts, or none"
        )
    best = sorted(totals, key=lambda name: (-totals[name], name))[:TABLE]
    precisions = [totals[name] / counted for name in best]
    return [list(name) for name in best], precisions, signals.fingerprint


def average_precision(scores: torch.Tensor, gold: frozenset[int]) -> float:
    """Of the sentences in ``gold`` (indexes), when all are ranked by ``scores``."""
    hits, total = 0, 0.0
    for rank, index in enumerate(cast("list[int]", scores.argsort(descending=True).tolist()), start=1):
        if index in gold:
            hits += 1
            total += hits / rank
    return total / len(gold)


def prompt(local: LocalModel, record: Record) -> tuple[PromptLayout, frozenset[int]]:
    """The chat prompt of a record, and which of its sentences (as numbered in ``layout.sentences``) are evidence."""
    message = [{"role": "user", "content": f"{INSTRUCTION}\n\n@@@"}]
    head, _, tail = local.render(message).partition("@@@")
    pieces = [Piece(Kind.INSTRUCTION, head)]
    gold: set[int] = set()
    count = 0
    for number, paragraph in enumerate(record.paragraphs, start=1):
        title = f"{local.escape(paragraph.title)}: "
        pieces += [Piece(Kind.MARKER, f"[{number}] ", number), Piece(Kind.TITLE, title, number)]
        sentences = [(n, local.escape(s.strip())) for n, s in enumerate(paragraph.sentences) if s.strip()]
        for place, (index, sentence) in enumerate(sentences):
            end = "\n" if place == len(sentences) - 1 else " "
            pieces.append(Piece(Kind.SENTENCE, sentence + end, number))
            if index in paragraph.support:
                gold.add(count)
            count += 1
    pieces.append(Piece(Kind.QUESTION, f"\nQuestion: {local.escape(record.question)}"))
    pieces.append(Piece(Kind.TASK, f"\nAnswer:{tail}"))
    return PromptLayout.build(local.tokenizer, pieces), frozenset(gold)


def filled(
    paragraphs: Sequence[Paragraph], others: Sequence[Paragraph], tokens: int, seed: int
) -> tuple[Paragraph, ...]:
    """``paragraphs`` with ``others``, none of which counts as evidence, to about ``tokens`` tokens, shuffled.

    Where they are too long already, some that are no evidence are left out.
    """
    picker = random.Random(seed)
    chosen = list(paragraphs)
    wanted = tokens * 4.2  # characters of English a token, about
    for paragraph in [p for p in chosen if not p.support]:
        if sum(map(_size, chosen)) <= wanted:
            break
        chosen.remove(paragraph)
    titles = {p.title for p in chosen}
    fresh = [p for p in others if p.title not in titles]
    picker.shuffle(fresh)
    for paragraph in fresh:
        if sum(map(_size, chosen)) >= wanted - 300:
            break
        if paragraph.title not in titles:
            titles.add(paragraph.title)
            chosen.append(Paragraph(paragraph.title, paragraph.sentences))
    picker.shuffle(chosen)
    return tuple(chosen)


def _size(paragraph: Paragraph) -> int:
    return len(paragraph.title) + sum(len(sentence) + 1 for sentence in paragraph.sentences) + 10


def _records(files: Sequence[Path], count: int, seed: int) -> list[Record]:
    if not files:
        return [needle(number % DEPTHS, TOKENS, seed * 1000 + number) for number in range(count)]
    records = [r for r in training_split(read_records(files)) if r.supporting]
    random.Random(seed).shuffle(records)
    return list(_extended(records, count, seed))


def _extended(records: Sequence[Record], count: int, seed: int) -> Iterator[Record]:
    from dataclasses import replace

    others = [p for record in records[count:] for p in record.paragraphs]
    for number, record in enumerate(records[:count]):
        yield replace(record, paragraphs=filled(record.paragraphs, others, TOKENS, seed + number))
