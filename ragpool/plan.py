"""Question -> plan: the look-ups that answer it, as triples with open slots (DESIGN.md section 5).

A plan is written one triple a line, ``subject | relation | ?n``; a comparison ends with a line that
names its operation, ``= earlier``. Subjects are words of the question or slots of earlier lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ragpool import prompts
from ragpool.plan_rules import plan_lines
from ragpool.types import Operation, Question, Triple, Usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from ragpool.models import LocalModel

PLAN_PROMPT_VERSION = "1"
"""Goes up when the prompt or the line format changes; an adapter names the version it was trained for."""

MAX_TRIPLES = 8
MAX_NEW_TOKENS = 120

_TOKEN = re.compile(r"\w+|[^\w\s]")
_SLOT = re.compile(r"\?\d+")
_HOW_MANY = re.compile(r"\s*how many\b", re.IGNORECASE)
_COUNTS = re.compile(
    r"\b(?:numbers?|how many|count|amount|total|population|percentage|attendance|capacity)\b", re.IGNORECASE
)
_WORD = re.compile(r"\w+")
_BRACKETS = re.compile(r"\s*\([^)]*\)?\s*$")


def plan_prompt(question: str) -> str:
    """The prompt the trained planner was trained with; the model continues it with a plan."""
    return prompts.load("plan").fill(question=" ".join(question.split()))


def slots_in(term: str) -> tuple[str, ...]:
    """The slots a term mentions: ``"LaHave, ?1"`` mentions ``?1``."""
    return tuple(_SLOT.findall(term))


def fill(term: str, values: Mapping[str, str]) -> str:
    """``term`` with every slot that has a value replaced by it."""
    return _SLOT.sub(lambda slot: values.get(slot[0], slot[0]), term)


def write_plan(question: Question) -> str:
    """The text form of a question's plan; ``parse_plan`` reads it back."""
    lines = [f"{t.subject} | {t.relation} | {t.object}" for t in question.triples]
    if question.operation is not Operation.LOOKUP:
        lines.append(f"= {question.operation}")
    return "\n".join(lines)


def parse_plan(text: str, question: str, *, planner: str = "") -> Question | None:
    """Read a plan that a model wrote; None when no line of it can be used.

    Tolerant: a line is dropped when it is not three terms, when it mentions a slot that no earlier line
    produced, or when its subject is neither a slot nor words of the question. A small model slips when it
    copies a rare name, so a subject that is nearly words of the question becomes those words. Slots are
    renumbered in the order of their lines. A comparison that does not end in two or more chains is read as
    a look-up.
    """
    triples: list[Triple] = []
    renamed: dict[str, str] = {}
    operation = Operation.LOOKUP
    for line in text.splitlines():
        if line.lstrip().startswith("="):
            operation = _operation(line) or operation
            continue
        terms = [term.strip() for term in line.split("|")]
        if len(terms) != 3 or len(triples) == MAX_TRIPLES:
            continue
        subject, relation, target = terms
        usable = subject and relation and _SLOT.fullmatch(target) and target not in renamed
        if not usable or any(slot not in renamed for slot in (*slots_in(subject), *slots_in(relation))):
            continue
        if not slots_in(subject):
            subject = _in_words_of(question, subject)
            if not subject:
                continue
        triple = Triple(fill(subject, renamed), fill(relation, renamed), f"?{len(triples) + 1}")
        if any((t.subject, t.relation) == (triple.subject, triple.relation) for t in triples):
            continue  # a small model that loops repeats its lines
        renamed[target] = triple.object
        triples.append(triple)
    if not triples:
        return None
    if _HOW_MANY.match(question) and not _COUNTS.search(triples[-1].relation):
        triples[-1] = replace(triples[-1], relation=f"number of {triples[-1].relation}")
    compared = _roots(triples)
    if operation is Operation.LOOKUP or len(compared) < 2:
        return Question(question, tuple(triples), planner=planner)
    return Question(question, tuple(triples), operation, compared, planner)


def plain(name: str) -> str:
    """A name for comparison: lower case, letters and digits only, no accents."""
    folded = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in folded if c.isalnum())


def base_name(name: str) -> str:
    """A title without the bracket that tells it from others."""
    return _BRACKETS.sub("", name) or name


def span_in(question: str, name: str, *, least: float = 0.84) -> str | None:
    """The words of the question that mean ``name``: the same letters, else the most similar ones.

    ``least`` is the similarity (difflib's ratio of the letters) that a span must exceed.
    """
    target = plain(name)
    tokens = list(_TOKEN.finditer(question))
    size = len(_TOKEN.findall(name))
    best, found = least, None
    matcher = SequenceMatcher(None, "", target, autojunk=False)
    for first in range(len(tokens) if target else 0):
        for last in range(first, min(len(tokens), first + size + 4)):
            text = question[tokens[first].start() : tokens[last].end()]
            if text.count("(") != text.count(")") or not (text[0].isalnum() or text[0] == "("):
                continue
            if not (text[-1].isalnum() or text[-1] in ").!"):
                continue
            letters = plain(text)
            if letters == target:
                return text
            if abs(len(letters) - len(target)) > max(len(letters), len(target)) * 0.4:
                continue
            matcher.set_seq1(letters)
            if (
                matcher.real_quick_ratio() > best
                and matcher.quick_ratio() > best
                and (ratio := matcher.ratio()) > best
            ):
                best, found = ratio, text
    return found


def _in_words_of(question: str, subject: str) -> str:
    """``subject`` if it is words of the question, else the words it is nearly; empty when it is neither."""
    words = " ".join(_WORD.findall(subject.casefold()))
    if words and f" {words} " in f" {' '.join(_WORD.findall(question.casefold()))} ":
        return subject
    return span_in(question, subject, least=0.75) or span_in(question, base_name(subject), least=0.75) or ""


def _operation(line: str) -> Operation | None:
    name = line.lstrip(" =").strip().casefold()
    return next((operation for operation in Operation if operation == name), None)


def final_slots(triples: Sequence[Triple]) -> tuple[str, ...]:
    """The slots no other triple goes on from, in the order of the plan: they hold the answer."""
    used = {slot for t in triples for slot in (*slots_in(t.subject), *slots_in(t.relation))}
    return tuple(t.object for t in triples if t.object not in used)


def _roots(triples: list[Triple]) -> tuple[str, ...]:
    """The subject in which each chain begins, one for every final slot."""
    producer = {t.object: t for t in triples}
    final = final_slots(triples)
    roots: list[str] = []
    for triple in triples:
        if triple.object not in final:
            continue
        while slots_in(triple.subject):
            triple = producer[slots_in(triple.subject)[-1]]
        if triple.subject not in roots:
            roots.append(triple.subject)
    return tuple(roots)


class Planner(Protocol):
    """Turns a question into a plan. The plan is empty (no triples) when none could be read."""

    name: str

    def plan(self, question: str) -> tuple[Question, Usage]: ...


class TrainedPlanner:
    """Rules where a pattern fits the whole question (they are surer there, and free), else the plan adapter."""

    def __init__(self, model: LocalModel, folder: Path | None = None) -> None:
        self._model = model
        self._rules = RulePlanner()
        version = model.load_adapter("plan", folder or adapter_folder("plan"))
        self.name = f"trained:{version}+{PLAN_PROMPT_VERSION}"

    def plan(self, question: str) -> tuple[Question, Usage]:
        ruled, usage = self._rules.plan(question)
        if ruled.triples:
            return ruled, usage
        prompt = plan_prompt(self._model.escape(question))
        completion = self._model.complete(prompt, adapter="plan", max_new_tokens=MAX_NEW_TOKENS)
        plan = parse_plan(completion.text, question, planner=self.name)
        return plan or ruled, completion.usage


class PromptedPlanner:
    """Any large chat model, told the line format; rules where its reply cannot be read."""

    def __init__(self, chat: BaseChatModel) -> None:
        self.name = f"prompted@{prompts.load('triples').sha}"
        self._chat = chat
        self._rules = RulePlanner()

    def plan(self, question: str) -> tuple[Question, Usage]:
        reply = self._chat.invoke(prompts.load("triples").fill(question=" ".join(question.split())))
        plan = parse_plan(reply.text, question, planner=self.name)
        return plan or self._rules.plan(question)[0], reply_usage(reply)


class RulePlanner:
    """Patterns only: "X or Y" comparisons and "the R of the S of X" chains, otherwise no triples. Needs no model."""

    name = "rules@1"

    def plan(self, question: str) -> tuple[Question, Usage]:
        lines = plan_lines(question)
        plan = parse_plan("\n".join(lines), question, planner=self.name)
        return plan or Question(question, planner=self.name), Usage()


def adapter_folder(name: str) -> Path:
    """Where the shipped adapter ``name`` lies."""
    return Path(__file__).parent / "weights" / name


def reply_usage(reply: AIMessage) -> Usage:
    """What a chat model says a reply has cost; 0 tokens where it does not say."""
    tokens = reply.usage_metadata or {"input_tokens": 0, "output_tokens": 0}
    return Usage(llm_calls=1, prompt_tokens=tokens["input_tokens"], completion_tokens=tokens["output_tokens"])
