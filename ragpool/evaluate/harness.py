"""Runs each method over the questions of a data set and keeps one outcome a question."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragpool.corpus import Dataset, QuestionRecord, load_dataset
from ragpool.errors import InputError, SettingsError
from ragpool.evaluate.metrics import exact_match, recall_at, token_f1
from ragpool.sdk import RagPool
from ragpool.settings import Method, Settings
from ragpool.types import Answer, AnswerStatus, EvidenceStatus

METHODS: dict[str, Method] = {"single": "single", "ragpool": "ragpool"}
DEPTHS = (4, 6, 8)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement against gold: ``complete`` says whether all gold documents were in the pool by then."""

    probability: float
    sufficient: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method made of one question.

    ``recall`` and ``complete`` are by depth: over the first n passages of those given to the generator.
    """

    question_id: str
    question: str
    kind: str
    answerable: bool
    golds: tuple[str, ...]
    answer: Answer
    em: float
    f1: float
    recall: dict[int, float]
    complete: dict[int, bool]
    retrieved_recall: float
    cited_recall: float
    duplicates: int
    verdicts: tuple[Verdict, ...]

    @property
    def abstained(self) -> bool:
        return self.answer.status is AnswerStatus.INSUFFICIENT


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All outcomes, by method, in the order of the questions."""

    dataset: str
    split: str
    documents: int
    outcomes: dict[str, tuple[Outcome, ...]]


def is_held_back(question_id: str) -> bool:
    """Whether the question belongs to the 30 % that no training of ours has seen (by a hash of its id)."""
    return int(hashlib.sha256(question_id.encode()).hexdigest(), 16) % 10 < 3


def evaluate(
    file: Path,
    store: Path,
    settings: Settings,
    *,
    methods: Sequence[str] = ("single", "ragpool"),
    limit: int | None = None,
    split: str = "all",
    extra_documents: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Index the data set of ``file`` into ``store`` and answer its questions with each method.

    ``split`` is all, heldout (questions no shipped weight was trained on) or train. ``extra_documents`` are further
    documents to search among. Raises InputError for a file without gold, SettingsError for an unknown method.
    """
    unknown = [m for m in methods if m not in METHODS]
    if unknown:
        raise SettingsError(f"no method {', '.join(unknown)}: choose from {', '.join(METHODS)}")
    dataset = load_dataset(file)
    questions = _chosen(dataset, split, limit)
    outcomes: dict[str, list[Outcome]] = {m: [] for m in methods}
    with RagPool.open(store, create=True, settings=settings) as rag:
        rag.index.add(dataset.documents)
        if extra_documents is not None:
            rag.add(extra_documents)
        for done, question in enumerate(questions):
            for method in methods:
                if progress is not None:
                    progress(method, done, len(questions))
                outcomes[method].append(_outcome(rag, question, method, dataset.name))
        documents = rag.index.count()[0]
    return Evaluation(dataset.name, split, documents, {m: tuple(found) for m, found in outcomes.items()})


def _chosen(dataset: Dataset, split: str, limit: int | None) -> list[QuestionRecord]:
    wanted = {"all": (True, False), "heldout": (True,), "train": (False,)}.get(split)
    if wanted is None:
        raise SettingsError(f"no split {split!r}: choose all, heldout or train")
    questions = [q for q in dataset.questions if is_held_back(q.id) in wanted]
    if not any(q.answers or q.evidence for q in questions):
        raise InputError(
            f"{dataset.name}: no question of split {split!r} has gold answers or evidence to compare with"
        )
    return questions[:limit]


def _outcome(rag: RagPool, question: QuestionRecord, method: str, dataset: str) -> Outcome:
    answer = rag.ask(
        question.question, id=question.id, job=f"eval:{dataset}:{method}", method=METHODS[method]
    )
    gold = set(question.evidence)
    found = [e for e in answer.evidence if e.status is EvidenceStatus.ADMITTED]
    documents = list(dict.fromkeys(e.document_id for e in found))
    answerable = bool(question.answers)
    refused = answer.status is AnswerStatus.INSUFFICIENT
    right_refusal = float(refused and not answerable)
    return Outcome(
        question_id=question.id,
        question=question.question,
        kind=str(question.metadata.get("type", "")),
        answerable=answerable,
        golds=question.answers,
        answer=answer,
        em=exact_match(answer.answer, question.answers) if answerable else right_refusal,
        f1=token_f1(answer.answer, question.answers) if answerable else right_refusal,
        recall={k: recall_at([e.document_id for e in found], gold, k) for k in DEPTHS},
        complete={k: recall_at([e.document_id for e in found], gold, k) == 1.0 for k in DEPTHS},
        retrieved_recall=recall_at(documents, gold, len(documents)),
        cited_recall=recall_at([c.document_id for c in answer.citations], gold, len(answer.citations)),
        duplicates=sum(e.status is EvidenceStatus.DUPLICATE for e in answer.evidence),
        verdicts=_verdicts(rag, answer, gold),
    )


def _verdicts(rag: RagPool, answer: Answer, gold: set[str]) -> tuple[Verdict, ...]:
    """Every judgement of the run against what the pool held in that round."""
    if not gold:
        return tuple(
            Verdict(j.probability, j.sufficient, False) for _, j in rag.pools.pool(answer.run_id).judgements
        )
    verdicts = []
    for number, judgement in rag.pools.pool(answer.run_id).judgements:
        held = {
            e.document_id
            for e in answer.evidence
            if e.round <= number and e.status is EvidenceStatus.ADMITTED
        }
        verdicts.append(Verdict(judgement.probability, judgement.sufficient, gold <= held))
    return tuple(verdicts)
