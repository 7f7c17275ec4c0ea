"""The plan adapter: training pairs from gold plans and the grammar, training, evaluation."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragpool.plan import (
    MAX_NEW_TOKENS,
    fill,
    parse_plan,
    plain,
    plan_prompt,
    slots_in,
    write_plan,
)
from ragpool.plan_rules import plan_lines
from ragpool.training import grammar, lora, written
from ragpool.training.cards import PLAN_CARD, write_card
from ragpool.training.data import Record, dev_split, read_records, training_split
from ragpool.training.gold import gold_plan
from ragpool.types import Operation, Question, Triple

# The pairs are short, about 55 tokens. With 1,024 tokens a batch, three epochs are 94 steps, and only .66 of the
# held-out 2Wiki chains come out right: the number of steps is what counts here.
BATCH_TOKENS = 384
MADE_UP = 900  # questions of the grammar an epoch
SECOND_MADE_UP, THIRD_MADE_UP = 2600, 500  # and in the later stages
SECOND_RATE, THIRD_RATE = 2e-4, 3e-4
REPEATED = 0.4  # of the pairs of the third stage, in the fourth and the fifth
AGAIN = 0.3  # of the fourth stage's own pairs, in the fifth


_RATES = ("relations", "subjects", "shape", "operation", "plan")
_OPPOSITES = (
    ("died first", "died last"),
    ("born first", "born last"),
    ("released first", "released most recently"),
    ("came out first", "came out last"),
    ("formed first", "formed last"),
    ("older", "younger"),
    ("earlier", "later"),
)
_MEASURES = (
    ("Which has a larger population, {} or {}?", "population", Operation.LARGER),
    ("Which covers less area, {} or {}?", "area", Operation.SMALLER),
    ("Between {} and {}, which one has more members?", "number of members", Operation.LARGER),
    ("Which one is higher above sea level, {} or {}?", "elevation", Operation.LARGER),
    ("Does {} or {} have fewer inhabitants?", "population", Operation.SMALLER),
    ("Which is longer, {} or {}?", "length", Operation.LARGER),
)


def examples(records: Sequence[Record]) -> list[lora.Example]:
    """Training pairs of the records that have a gold plan."""
    plans = [plan for record in records if (plan := gold_plan(record)) is not None]
    plans += [variant for plan in plans for variant in _turned(plan)]
    plans += _measured([p for p in plans if p.operation is Operation.SAME and len(p.triples) == 2])
    return _pairs(plans)


def _pairs(plans: Sequence[Question]) -> list[lora.Example]:
    return [lora.Example(plan_prompt(plan.text), write_plan(plan)) for plan in plans]


def _turned(plan: Question) -> list[Question]:
    """The same comparison asked the other way round: "born first" <-> "born later"."""
    if plan.operation not in (Operation.EARLIER, Operation.LATER):
        return []
    for earlier, later in _OPPOSITES:
        old, new = (earlier, later) if plan.operation is Operation.EARLIER else (later, earlier)
        text = re.sub(rf"\b{old}\b", new, plan.text)
        if text != plan.text:
            operation = Operation.LATER if plan.operation is Operation.EARLIER else Operation.EARLIER
            return [Question(text, plan.triples, operation, plan.compared, plan.planner)]
    return []


def _measured(plans: Sequence[Question]) -> list[Question]:
    """Questions of size over the names of every third yes/no comparison; the sets have hardly any."""
    made: list[Question] = []
    for number, plan in enumerate(plans[::3]):
        form, relation, operation = _MEASURES[number % len(_MEASURES)]
        first, second = (t.subject for t in plan.triples)
        triples = (Triple(first, relation, "?1"), Triple(second, relation, "?2"))
        made.append(Question(form.format(first, second), triples, operation, (first, second), plan.planner))
    return made


def train(
    files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    epochs: int = 3,
    threads: int = 2,
    nested: bool = False,
    log: lora.Log,
) -> dict[str, Any]:
    """Train the plan adapter on the training split of ``files`` and on made-up questions, new ones each epoch
    (``grammar``), measure it on the dev split, write its card. ``nested``: with the fifth stage.

    A run that was interrupted goes on from its last epoch in ``out``. Returns all figures.
    """
    pairs = examples(training_split(read_records(files)))
    made = [_pairs(grammar.examples(MADE_UP, seed=seed + epoch)) for epoch in range(epochs)]
    recipe = lora.Recipe(seed=seed, batch_tokens=BATCH_TOKENS, threads=threads)
    first, second, third, fourth = (out / name for name in ("first", "second", "third", "fourth"))
    trained = lora.train_lora([[*pairs, *more] for more in made], first, recipe, log)
    trained["later"] = [
        second_stage(files, first, second, seed=seed, threads=threads, log=log),
        third_stage(files, second, third, seed=seed, threads=threads, log=log),
        fourth_stage(files, third, fourth if nested else out, seed=seed, threads=threads, log=log),
    ]
    if nested:
        trained["later"].append(fifth_stage(files, fourth, out, seed=seed, threads=threads, log=log))
    log("measuring on the dev split")
    return write_card(PLAN_CARD, files, out, trained, evaluate(files, out))


def second_stage(
    files: Sequence[Path], first: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """One more epoch from the adapter in ``first``, over the data sets and many more made-up questions: long chains
    whose words stand in another order than their steps are learnt late."""
    made = _pairs(grammar.examples(SECOND_MADE_UP, seed=seed + 1000))
    recipe = lora.Recipe(seed=seed, rate=SECOND_RATE, batch_tokens=BATCH_TOKENS, threads=threads)
    return lora.train_lora(
        [[*examples(training_split(read_records(files))), *made]], out, recipe, log, start=first
    )


def third_stage(
    files: Sequence[Path], second: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """An epoch from the adapter in ``second``, over the data sets and the questions written by hand: what people ask
    is not made of a grammar's parts."""
    recipe = lora.Recipe(seed=seed, rate=THIRD_RATE, batch_tokens=BATCH_TOKENS, threads=threads)
    pairs = _third_pairs(training_split(read_records(files)), seed)
    return lora.train_lora([pairs], out, recipe, log, start=second)


def _third_pairs(records: Sequence[Record], seed: int) -> list[lora.Example]:
    pairs = examples(records) + _pairs(written.plans())
    return pairs + _pairs(grammar.examples(THIRD_MADE_UP, seed=seed + 2000))


def fourth_stage(
    files: Sequence[Path], third: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """An epoch from the adapter in ``third``, over the two-hop questions written on the training questions' paragraphs
    and some of what the third stage saw: questions whose parts no data set here names."""
    records = training_split(read_records(files))
    shown = _third_pairs(records, seed + 1)
    pairs = examples(written.records(records))
    pairs += random.Random(seed).sample(shown, int(REPEATED * len(shown)))
    recipe = lora.Recipe(seed=seed, rate=THIRD_RATE, batch_tokens=BATCH_TOKENS, threads=threads)
    return lora.train_lora([pairs], out, recipe, log, start=third)


def fifth_stage(
    files: Sequence[Path], fourth: Path, out: Path, *, seed: int = 0, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """An epoch from the adapter in ``fourth``, over questions of three and four steps written by hand and some of what
    the stages before saw: nested questions, whose steps stand in the reverse order of their words. The shipped adapter is
    without it: it reads four steps better, but answers no more questions rightly (the card has figures)."""
    rng = random.Random(seed)
    records = training_split(read_records(files))
    shown, chained = _third_pairs(records, seed + 2), examples(written.records(records))
    pairs = _pairs(written.plans(written.LONG_PLANS))
    pairs += rng.sample(shown, int(REPEATED * len(shown))) + rng.sample(chained, int(AGAIN * len(chained)))
    recipe = lora.Recipe(seed=seed, rate=SECOND_RATE, batch_tokens=BATCH_TOKENS, threads=threads)
    return lora.train_lora([pairs], out, recipe, log, start=fourth)


def evaluate(files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Figures on the dev split and on the held-out questions with plans written by hand, by data set: the adapter of
    ``folder`` alone, the rules alone, and both as shipped."""
    records = dev_split(read_records(files)) + written.planned()
    model = lora.with_adapter("plan", folder)
    prompts = [plan_prompt(record.question) for record in records]
    replies = model.complete_batch(prompts, adapter="plan", max_new_tokens=MAX_NEW_TOKENS)
    return measure(records, [completion.text for completion in replies])


def measure(records: Sequence[Record], replies: Sequence[str]) -> dict[str, Any]:
    """The figures of ``evaluate`` for the adapter's replies."""
    plans = [parse_plan(text, record.question) for text, record in zip(replies, records, strict=True)]
    ruled = [parse_plan("\n".join(plan_lines(record.question)), record.question) for record in records]
    return {
        "adapter": score(records, plans),
        "rules": score(records, ruled),
        "rules, then adapter": score(
            records, [first or second for first, second in zip(ruled, plans, strict=True)]
        ),
    }


def score(records: Sequence[Record], plans: Sequence[Question | None]) -> dict[str, Any]:
    """Plans against gold, by data set, over the records that have a gold plan.

    ``relations``: the sequence of relations, as a set of chains, is right; ``plan``: subjects and operation
    too; ``subjects``: all named subjects are right; ``shape``: each step asks about the right thing, whatever the words
    of its relation; ``errors``: the first thing that is wrong.
    """
    tables: dict[str, Counter[str]] = {}
    for record, plan in zip(records, plans, strict=True):
        table = tables.setdefault(record.dataset, Counter())
        table["questions"] += 1
        table["unreadable"] += plan is None
        gold = gold_plan(record)
        if gold is None:
            continue
        table["gold"] += 1
        error = "unreadable" if plan is None else compare(plan, gold)
        if error is None:
            table["plan"] += 1
        else:
            table[f"error: {error}"] += 1
        if plan is not None:
            table["relations"] += _chains(plan, False) == _chains(gold, False)
            table["subjects"] += _named(plan) == _named(gold)
            table["operation"] += plan.operation == gold.operation
            table["shape"] += _shape(plan) == _shape(gold)
    rates: dict[str, Any] = {}
    for dataset, table in tables.items():
        of = max(1, table["gold"])
        rates[dataset] = {
            "questions": table["questions"],
            "gold": table["gold"],
            **{name: round(table[name] / of, 4) for name in _RATES},
            "errors": {
                k.removeprefix("error: "): n for k, n in table.most_common() if k.startswith("error: ")
            },
        }
    return rates


def compare(plan: Question, gold: Question) -> str | None:
    """The class of the first difference, None when the plans agree (names compared without case and marks)."""
    if plan.operation != gold.operation:
        return f"operation {gold.operation} read as {plan.operation}"
    if len(plan.triples) != len(gold.triples):
        return "too few triples" if len(plan.triples) < len(gold.triples) else "too many triples"
    if _chains(plan, False) != _chains(gold, False):
        return "relation"
    return None if _chains(plan, True) == _chains(gold, True) else "subject"


def _shape(plan: Question) -> list[str]:
    return [plain(re.sub(r"\?(\d+)", r" slot\1 ", t.subject)) for t in plan.triples]


def _named(plan: Question) -> list[str]:
    return sorted(plain(t.subject) for t in plan.triples if not slots_in(t.subject))


def _chains(plan: Question, with_subjects: bool) -> list[str]:
    """Each triple with its slots spelled out as the triples that produce them; sorted."""
    spelled: dict[str, str] = {}
    for t in plan.triples:
        subject = (
            fill(t.subject, spelled) if slots_in(t.subject) else plain(t.subject) if with_subjects else "x"
        )
        spelled[t.object] = f"({subject}|{fill(t.relation.casefold(), spelled)})"
    return sorted(spelled.values())
