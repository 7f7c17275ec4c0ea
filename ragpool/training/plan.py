"""The plan adapter: gold plans of 2Wiki, MuSiQue and HotpotQA questions, training, evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragpool.plan import (
    MAX_NEW_TOKENS,
    base_name,
    fill,
    parse_plan,
    plain,
    plan_prompt,
    slots_in,
    span_in,
    write_plan,
)
from ragpool.plan_rules import plan_lines
from ragpool.training import grammar, lora
from ragpool.training.cards import PLAN_CARD, write_card
from ragpool.training.data import MUSIQUE, TWOWIKI, Record, dev_split, read_records, training_split
from ragpool.training.hotpot_plans import HOTPOT_PLANS
from ragpool.types import Operation, Question, Triple
from ragpool.values import parse_date

# The pairs are short, about 55 tokens. With 1,024 tokens a batch, three epochs are 94 steps, and only .66 of the
# held-out 2Wiki chains come out right: the number of steps is what counts here.
BATCH_TOKENS = 384
MADE_UP = 900  # questions of the grammar an epoch
SECOND_MADE_UP = 2600  # and in the second stage
SECOND_RATE = 2e-4

# Wikidata's names of relations, in words that a search understands.
_RELATIONS = {
    "located in the administrative territorial entity": "located in",
    "located in or next to body of water": "located next to body of water",
    "mouth of the watercourse": "mouth",
    "applies to jurisdiction": "jurisdiction",
    "licensed to broadcast to": "licensed to broadcast in",
}
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
_TOKEN = re.compile(r"\w+|[^\w\s]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEADING = _words("what which who whom whose is was are were does do did the a an of in on at by to for 's")
_TRAILING = _words("is was are were did does do the a an of in on at by to for from and with whom who what s")
_NEVER = _TRAILING | _words("where when how that this its")
_FILLING = _words("did does do is was are the a an 's")
_ASKS = re.compile(r"^(?:in|on|at|of|to|from|for)?\s*(?:what|which|who|whom|whose)\b\s*", re.IGNORECASE)


def gold_plan(record: Record) -> Question | None:
    """The plan a record's gold labels amount to; None when they cannot be put in the question's words."""
    if record.dataset == TWOWIKI:
        text = _twowiki(record)
    elif record.dataset == MUSIQUE:
        text = _musique(record)
    else:
        text = _hotpot(record)
    return parse_plan("\n".join(text), record.question, planner="gold") if text else None


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
    files: Sequence[Path], out: Path, *, seed: int = 0, epochs: int = 3, threads: int = 2, log: lora.Log
) -> dict[str, Any]:
    """Train the plan adapter on the training split of ``files`` and on made-up questions, new ones each epoch
    (``grammar``), measure it on the dev split, write its card.

    A run that was interrupted goes on from its last epoch in ``out``. Returns all figures.
    """
    pairs = examples(training_split(read_records(files)))
    made = [_pairs(grammar.examples(MADE_UP, seed=seed + epoch)) for epoch in range(epochs)]
    recipe = lora.Recipe(seed=seed, batch_tokens=BATCH_TOKENS, threads=threads)
    first = out / "first"
    trained = lora.train_lora([[*pairs, *more] for more in made], first, recipe, log)
    trained["second"] = second_stage(files, first, out, seed=seed, threads=threads, log=log)
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


def evaluate(files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Figures on the dev split, by data set: the adapter of ``folder`` alone, the rules alone, and both as shipped."""
    records = dev_split(read_records(files))
    model = lora.with_adapter("plan", folder)
    prompts = [plan_prompt(record.question) for record in records]
    written = model.complete_batch(prompts, adapter="plan", max_new_tokens=MAX_NEW_TOKENS)
    return measure(records, [completion.text for completion in written])


def measure(records: Sequence[Record], written: Sequence[str]) -> dict[str, Any]:
    """The figures of ``evaluate`` for what the adapter has written."""
    plans = [parse_plan(text, record.question) for text, record in zip(written, records, strict=True)]
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
    too; ``subjects``: all named subjects are right; ``errors``: the first thing that is wrong.
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
    rates: dict[str, Any] = {}
    for dataset, table in tables.items():
        of = max(1, table["gold"])
        rates[dataset] = {
            "questions": table["questions"],
            "gold": table["gold"],
            **{name: round(table[name] / of, 4) for name in ("relations", "subjects", "operation", "plan")},
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


def _twowiki(record: Record) -> list[str]:
    """Chains of gold triples, in the order in which the question names their subjects."""
    steps = list(record.steps)
    chains: list[list[int]] = []
    placed: set[int] = set()
    for i, step in enumerate(steps):
        if i in placed or any(_same(step.subject, other.answer) for other in steps):
            continue
        chain = [i]
        while True:
            value = steps[chain[-1]].answer
            follow = [
                j
                for j, s in enumerate(steps)
                if j not in placed and j not in chain and _same(s.subject, value)
            ]
            if not follow:
                break
            chain.append(follow[0])
        placed.update(chain)
        chains.append(chain)
    if len(placed) != len(steps) or not chains:
        return []
    titles = [p.title for p in record.supporting]
    named: list[tuple[int, str, list[int]]] = []
    for chain in chains:
        name = steps[chain[0]].subject
        full = [t for t in titles if _same(t, name)]
        spans = (span_in(record.question, n) for n in (*full, name, base_name(name)))
        span = next((s for s in spans if s), None)
        if (
            span is None and len(chains) == 1
        ):  # the question may use the title where the triple has the full name
            span = next((s for t in titles for s in (span_in(record.question, t),) if s), None)
        if span is None:
            return []
        named.append((record.question.find(span), span, chain))
    named.sort()
    lines: list[str] = []
    for _, span, chain in named:
        for place, i in enumerate(chain):
            subject = span if place == 0 else f"?{len(lines)}"
            lines.append(f"{subject} | {steps[i].relation} | ?{len(lines) + 1}")
    if len(named) == 1:
        return lines
    values = [steps[chain[-1]].answer for _, _, chain in named]
    operation = _operation(record.answers[0], [span for _, span, _ in named], values)
    return [*lines, f"= {operation}"] if operation else []


def _same(name: str, other: str) -> bool:
    return plain(base_name(name)) == plain(base_name(other))


def _operation(answer: str, names: Sequence[str], values: Sequence[str]) -> Operation | None:
    """The operation that turns the two values into the gold answer; None when none does."""
    if answer.casefold() in ("yes", "no"):
        return Operation.SAME
    dates = [parse_date(value) for value in values]
    chosen = [i for i, name in enumerate(names) if _same(name, answer)]
    if len(names) != 2 or len(chosen) != 1 or dates[0] is None or dates[1] is None or dates[0] == dates[1]:
        return None
    earlier = 0 if dates[0] < dates[1] else 1
    return Operation.EARLIER if chosen[0] == earlier else Operation.LATER


def _hotpot(record: Record) -> list[str]:
    """The plan written by hand, with token ranges turned into the question's words."""
    tokens = list(_TOKEN.finditer(record.question))
    lines = []
    for line in HOTPOT_PLANS.get(record.id, ()):
        head, *rest = line.split(" | ")
        if rest and not slots_in(head):
            first, last = (int(n) for n in head.split("-"))
            head = record.question[tokens[first].start() : tokens[last - 1].end()]
        lines.append(" | ".join((head, *rest)))
    return lines


def _musique(record: Record) -> list[str]:
    """Triples from ``X >> relation`` steps and from sub-questions in plain language."""
    lines: list[str] = []
    for step in record.steps:
        text = re.sub(r"#(\d+)", r"?\1", step.text).strip()
        if ">>" in text:
            subject, _, relation = (part.strip() for part in text.partition(">>"))
            relation = _RELATIONS.get(relation, relation)
            if slots_in(subject):
                subject = _keep_known(subject, record.question)
            else:
                subject = (
                    span_in(record.question, subject) or span_in(record.question, base_name(subject)) or ""
                )
        elif slots := slots_in(text):
            subject = slots[-1]
            relation = _relation(text.replace(subject, " "))
        else:
            subject = _shared(record.question, text)
            relation = _relation(_without(text, subject))
        if not subject or not relation:
            return []
        lines.append(f"{subject} | {relation} | ?{len(lines) + 1}")
    return lines


def _keep_known(subject: str, question: str) -> str:
    """A subject with slots, its other words as the question writes them."""
    rest = re.sub(r"[\s,()]*\?\d+[\s,()]*", " ", subject).strip()
    if not plain(rest):
        return slots_in(subject)[-1]
    span = span_in(question, rest)
    return subject.replace(rest, span).replace(" )", ")") if span else ""


def _shared(question: str, text: str) -> str:
    """The longest run of words that a sub-question shares with the question, names counting most."""
    asked = {plain(w) for w in re.findall(r"\w+", text)}
    tokens = list(_TOKEN.finditer(question))
    best, found = 1.0, ""
    for first in range(len(tokens)):
        for last in range(first, len(tokens)):
            words = [t[0] for t in tokens[first : last + 1]]
            inner = [w for w in words if w[0].isalnum()]
            if inner and plain(inner[-1]) not in asked:
                break
            ends = (words[0], words[-1])
            if any(not w[0].isalnum() or w.casefold() in _NEVER for w in ends) or (
                first == 0 and _starts(words[0])
            ):
                continue
            named = [w for w in inner if w[0].isupper()]
            if named and not all(w[0].isupper() or w[0].isdigit() for w in ends):
                continue  # a name begins and ends with its capitals
            value = (
                3.0 * len(named)
                + sum(w.casefold() not in _LEADING | _TRAILING for w in inner)
                - 0.1 * len(inner)
            )
            if value > best:
                best, found = value, question[tokens[first].start() : tokens[last].end()]
    return found


def _starts(word: str) -> bool:
    """Whether a capital at the start of a question is only that."""
    return word.casefold() in _LEADING | _NEVER


def _without(text: str, subject: str) -> str:
    """A sub-question without the words of its subject."""
    taken = {plain(w) for pattern in (r"\w+", r"[\w'-]+") for w in re.findall(pattern, subject)}
    words = (w.removesuffix("'s") for w in re.findall(r"[\w'-]+", text))
    return " ".join(w for w in words if plain(w) not in taken)


def _relation(text: str) -> str:
    """The words of a sub-question that say what is asked; "when", "where" and "how many" stay."""
    text = _ASKS.sub("", " ".join(re.findall(r"\?\d+|[\w'.-]+", text)))
    words = re.sub(r"\bname of\b", "", text, flags=re.IGNORECASE).strip(" .").split()
    while words and words[0].casefold() in _LEADING:
        words.pop(0)
    words = [w for i, w in enumerate(words) if not (i and w.casefold() in _FILLING)]
    while words and words[-1].casefold() in _TRAILING:
        words.pop()
    return " ".join(words)
