"""The reader adapter: look-ups and whole questions with distilled contexts, training, evaluation."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ragpool.slots import (
    MAX_NEW_TOKENS,
    NONE,
    Calibration,
    parse_reading,
    reader_prompt,
    verified,
)
from ragpool.training import lora, metrics, mined, statements, written
from ragpool.training.cards import READER_CARD, write_card
from ragpool.training.data import (
    HOTPOT,
    MUSIQUE,
    TWOWIKI,
    dev_split,
    read_records,
    training_split,
)
from ragpool.training.readings import FULL, LOOKUP, Item, Sample, examples, is_rare, questions

_WORD = re.compile(r"\w+")

OTHER_WORLDS = "zembrissa"  # the data set's name in what corpora/zembrissa/generate.py --benchmark writes
SIZES = {(TWOWIKI, LOOKUP): 250, (TWOWIKI, FULL): 90, (MUSIQUE, LOOKUP): 150}
"""Examples an epoch; the other sorts are small and used whole."""
SECOND_SIZES = {**SIZES, (TWOWIKI, LOOKUP): 120, (TWOWIKI, FULL): 60}

MIXES = {"mined": (SIZES, 0, 1900, 450), "written": (SECOND_SIZES, 3600, 300, 150)}
"""The two second stages: gold items by sort, then look-ups written by hand, mined from paragraphs and made up."""
SECOND_RATE = 3e-4
THIRD_SIZES = {
    (TWOWIKI, LOOKUP): 80, (TWOWIKI, FULL): 40, (MUSIQUE, LOOKUP): 80, (OTHER_WORLDS, LOOKUP): 350, (OTHER_WORLDS, FULL): 40,
}  # fmt: skip
FOURTH_SIZES = {
    (TWOWIKI, LOOKUP): 80, (TWOWIKI, FULL): 40, (MUSIQUE, LOOKUP): 80, (OTHER_WORLDS, LOOKUP): 160, (OTHER_WORLDS, FULL): 30,
}  # fmt: skip
WRITTEN_SIZES = {(HOTPOT, FULL): 220, (MUSIQUE, FULL): 220, (TWOWIKI, FULL): 80, (HOTPOT, LOOKUP): 60}
LATE_RATE = 2e-4
SECOND_BATCH = 768
PARTS = 4


def train(
    files: Sequence[Path], out: Path, *, seed: int = 0, epochs: int = 2, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """Train the reader adapter on the training split of ``files``, measure it on the dev split, write its card.

    A run that was interrupted goes on from its last epoch in ``out``; stages that were done are not trained again.
    Returns all figures. Every epoch draws its look-ups, their distractors and which of them are unanswerable anew.
    """
    records = training_split(read_records(files))
    rounds = [_pairs(examples(records, random.Random(f"{seed}-{epoch}"), SIZES)) for epoch in range(epochs)]
    first = out / "first"
    trained = lora.train_lora(rounds, first, lora.Recipe(seed=seed, threads=threads), log)
    stages = [out / mix for mix in MIXES]
    trained["later"] = [
        second_stage(files, first, stage, mix, seed=seed, threads=threads, log=log)
        for mix, stage in zip(MIXES, stages, strict=True)
    ]
    second = out / "second"
    lora.mean(stages, second)
    third = out / "third"
    trained["later"].append(third_stage(files, second, third, seed=seed, threads=threads, log=log))
    trained["later"].append(fourth_stage(files, third, out, seed=seed, threads=threads, log=log))
    log("measuring on the dev split")
    return write_card(READER_CARD, files, out, trained, evaluate(files, out))


def second_stage(
    files: Sequence[Path],
    first: Path,
    out: Path,
    mix: str,
    *,
    seed: int = 0,
    threads: int = 2,
    log: lora.Log,
) -> dict[str, Any]:
    """One more epoch from the adapter in ``first``, over the data sets and one of MIXES.

    It teaches what the gold look-ups show too little of: many relations in running text, many ways to ask, and that
    a value must be the asked entity's, or the answer is none. The mined look-ups make a reader that answers too
    readily, those written by hand one that says none too readily; the mean of the two is better than either.
    """
    rng = random.Random(f"{seed}-second")
    records = training_split(read_records(files))
    sizes, by_hand, from_text, made_up = MIXES[mix]
    mixed = (
        examples(records, rng, sizes)
        + written.examples(records, by_hand, rng)
        + mined.examples(records, from_text, rng)
        + statements.examples(made_up, rng)
    )
    recipe = lora.Recipe(seed=seed, rate=SECOND_RATE, batch_tokens=SECOND_BATCH, threads=threads)
    return lora.train_lora(_parts(mixed, rng), out, recipe, log, start=first)


def third_stage(
    files: Sequence[Path], second: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """A short epoch from the adapter in ``second``: look-ups from the other end ("whose book is this" asked of the
    author) and traps (the date of death where that of birth is asked for), among some of all the rest."""
    rng = random.Random(f"{seed}-third")
    records = training_split(read_records(files))
    mixed = (
        examples(records, rng, THIRD_SIZES, first=is_rare)
        + written.examples(records, 450, rng, written.BACKWARD)
        + written.examples(records, 150, rng)
        + mined.examples(records, 60, rng)
        + statements.examples(80, rng)
    )
    recipe = lora.Recipe(seed=seed, rate=LATE_RATE, batch_tokens=SECOND_BATCH, threads=threads)
    return lora.train_lora(_parts(mixed, rng), out, recipe, log, start=second)


def fourth_stage(
    files: Sequence[Path], third: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """An epoch from the adapter in ``third`` over what people ask in words of their own: the look-ups of ``paragraphs.tsv`` and
    whole questions over several passages, among some of all the rest."""
    rng = random.Random(f"{seed}-fourth")
    records = training_split(read_records(files))
    mixed = (
        examples(records, rng, FOURTH_SIZES, first=is_rare)
        + examples(written.records(records), rng, WRITTEN_SIZES)
        + written.examples(records, 2400, rng, written.PARAGRAPHS)
        + written.examples(records, 150, rng, written.BACKWARD)
        + mined.examples(records, 40, rng)
        + statements.examples(40, rng)
    )
    recipe = lora.Recipe(seed=seed, rate=LATE_RATE, batch_tokens=SECOND_BATCH, threads=threads)
    return lora.train_lora(_parts(mixed, rng), out, recipe, log, start=third)


def _parts(mixed: list[Sample], rng: random.Random) -> list[list[lora.Example]]:
    """The samples of an epoch in random order, in PARTS; each is saved when it is done."""
    rng.shuffle(mixed)
    return [_pairs(mixed[n::PARTS]) for n in range(PARTS)]


def _pairs(samples: Sequence[Sample]) -> list[lora.Example]:
    return [sample.as_example() for sample in samples]


# --- evaluation


def evaluate(files: Sequence[Path], folder: Path, *, seed: int = 0, limit: int = 60) -> dict[str, Any]:
    """Figures of the adapter on the dev split, by data set and kind.

    At most ``limit`` items of each sort are asked, twice where possible: with their gold passages among
    distractors, and with the answer left out. ``auroc`` says how well the log-probability tells right answers
    from wrong ones.
    """
    model = lora.with_adapter("reader", folder)
    asked = questions(dev_split(read_records(files)), random.Random(seed), limit)
    prompts = [reader_prompt(item.query, contexts) for item, contexts, _ in asked]
    written = model.complete_batch(prompts, adapter="reader", max_new_tokens=MAX_NEW_TOKENS)
    rows = []
    for (item, contexts, target), completion in zip(asked, written, strict=True):
        reading = verified(parse_reading(completion.text), 1.0, contexts, completion.usage)
        rows.append(Row(item, target, reading.value, completion.logprob))
    return score(rows)[0]


@dataclass(frozen=True, slots=True)
class Row:
    """What the reader said (None for nothing) when ``target`` was right."""

    item: Item
    target: str
    value: str | None
    logprob: float

    @property
    def f1(self) -> float:
        if self.target == NONE or self.value is None:
            return float((self.target == NONE) == (self.value is None))
        golds = (self.target, *self.item.record.answers) if self.item.kind == FULL else (self.target,)
        return max(token_f1(self.value, gold) for gold in golds)


def score(rows: Sequence[Row]) -> tuple[dict[str, Any], Calibration]:
    """Figures by data set and kind, over all rows the none and calibration figures, and the fitted curve."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.target != NONE:
            groups.setdefault(f"{row.item.record.dataset} {row.item.kind}", []).append(row)
    figures: dict[str, Any] = {}
    for name, group in sorted(groups.items()):
        errors: Counter[str] = Counter()
        for row in group:
            if row.f1 < 1.0:
                errors[
                    "says none" if row.value is None else "partly right" if row.f1 > 0 else "wrong span"
                ] += 1
        figures[name] = {
            "items": len(group),
            "em": _mean([row.f1 == 1.0 for row in group]),
            "f1": _mean([row.f1 for row in group]),
            "errors": dict(errors.most_common()),
        }
    said_none = [row for row in rows if row.value is None]
    is_none = [row for row in rows if row.target == NONE]
    figures["none"] = {
        "items": len(is_none),
        "precision": _mean([row.target == NONE for row in said_none]),
        "recall": _mean([row.value is None for row in is_none]),
    }
    valued = [(row.logprob, row.f1 >= 0.5 and row.target != NONE) for row in rows if row.value is not None]
    calibration = fit_calibration(valued)
    figures["confidence"] = {
        "values": len(valued),
        "right": _mean([right for _, right in valued]),
        "auroc": _auroc(valued),
        "auroc_with_none": _auroc([(row.logprob, row.f1 >= 0.5) for row in rows]),
        "calibration_error": _calibration_error([(calibration(x), right) for x, right in valued]),
    }
    return figures, calibration


def token_f1(said: str, gold: str) -> float:
    """The usual answer F1: words without case, articles and punctuation."""
    a, b = ([w for w in _WORD.findall(t.casefold()) if w not in ("a", "an", "the")] for t in (said, gold))
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else float(a == b)


def fit_calibration(
    scored: Sequence[tuple[float, bool]],
    weights: Sequence[float] | None = None,
    steps: int = 4000,
    rate: float = 0.5,
) -> Calibration:
    """A logistic curve by gradient descent, a little regularised towards slope 1. ``weights`` say how much each counts."""
    slope, offset = 1.0, 0.0
    counted = [(x, ok, w) for (x, ok), w in zip(scored, weights or [1.0] * len(scored), strict=True)]
    n = sum(w for _, _, w in counted) or 1.0
    for _ in range(steps):
        errors = [
            (w * (1 / (1 + math.exp(-max(-30.0, min(30.0, slope * x + offset)))) - ok), x)
            for x, ok, w in counted
        ]
        slope -= rate * (sum(e * x for e, x in errors) / n + 1e-3 * (slope - 1.0))
        offset -= rate * sum(e for e, _ in errors) / n
    return Calibration(round(slope, 4), round(offset, 4))


def _auroc(scored: Sequence[tuple[float, bool]]) -> float:
    return round(metrics.auroc(*_arrays(scored)), 4)


def _calibration_error(scored: Sequence[tuple[float, bool]]) -> float:
    return round(metrics.calibration_error(*_arrays(scored)), 4)


def _arrays(scored: Sequence[tuple[float, bool]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    return np.array([x for x, _ in scored], dtype=np.float64), np.array(
        [ok for _, ok in scored], dtype=np.bool_
    )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
