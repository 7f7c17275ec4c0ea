"""Runs each method over the questions of a data set and keeps one outcome a question."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragpool import models
from ragpool.corpus import Dataset, QuestionRecord, load_dataset
from ragpool.errors import InputError, SettingsError
from ragpool.evaluate.corpora import read_distractors, with_distractors
from ragpool.evaluate.fingerprint import fingerprint
from ragpool.evaluate.methods import Attempt, Method, named
from ragpool.evaluate.metrics import exact_match, recall_at, token_f1
from ragpool.sdk import RagPool
from ragpool.settings import Settings
from ragpool.types import Answer, AnswerStatus, Evidence, EvidenceStatus, Judgement

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

DEPTHS = (4, 6, 8, 10)

Progress = Callable[[str, int, int], None]
"""Called with (method, questions done, questions in all) before each question of each method."""

OpenRag = Callable[[Path, Settings], RagPool]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement against gold: ``complete`` says whether all gold documents were in the pool by then."""

    probability: float
    sufficient: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method made of one question.

    ``recall`` and ``complete`` are by depth k, over the first k admitted passages in the order of
    ``answer.evidence``: what the generator was given, in its order, then what else the pool held. So up to
    ``generator.max_passages`` (8 unless set) they are about the generator's context, and beyond it about the passages
    that a larger context would have had next. Nothing is searched for that: single-shot has ``retrieve.k`` passages
    and no more. ``by_round`` is the recall of the pool after each round. All are of gold documents, and 0 without gold.
    """

    question_id: str
    question: str
    kind: str
    answerable: bool
    golds: tuple[str, ...]
    gold: tuple[str, ...]
    answer: Answer
    em: float
    f1: float
    recall: dict[int, float]
    complete: dict[int, bool]
    retrieved_recall: float
    cited_recall: float
    by_round: tuple[float, ...]
    duplicates: int
    verdicts: tuple[Verdict, ...]

    @property
    def abstained(self) -> bool:
        return self.answer.status is AnswerStatus.INSUFFICIENT


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All outcomes, by method, in the order of the questions. ``kept`` of them were there from an earlier call."""

    dataset: str
    split: str
    documents: int
    outcomes: dict[str, tuple[Outcome, ...]]
    kept: int = 0


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
    chat: BaseChatModel | None = None,
    open_rag: OpenRag | None = None,
) -> Evaluation:
    """Index the data set of ``file`` into ``store`` and answer its questions with each method.

    ``store`` is the evaluation's own: documents that are not of this data set are taken out of it. Answers in it are
    not made again while code, weights, prompts, settings and documents are the same, so an evaluation that was
    interrupted goes on where it was. ``split`` is all, heldout (questions no shipped weight was trained on) or train.
    ``extra_documents`` is a file of further documents to search among. ``chat`` is used in place of the settings'
    chat model; ``open_rag`` opens the store in another way, for parts that settings cannot name.

    Raises InputError for a file without gold, SettingsError for an unknown method or split.
    """
    chosen = named(methods)
    dataset = load_dataset(file)
    questions = _chosen(dataset, split, limit)
    documents = dataset.documents
    if extra_documents is not None:
        documents = with_distractors(documents, read_distractors(extra_documents))
    settings = settings.model_copy(update={"database_url": None})  # nothing of this is for a shared database
    if chat is None and settings.models.chat != models.EMBEDDED:
        chat = models.load_chat(settings.models)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in chosen}
    kept = 0
    with ExitStack() as stack:
        opened = open_rag or (lambda place, s: RagPool.open(place, create=True, settings=s, chat=chat))
        rag = stack.enter_context(opened(store, settings))
        rag.index.add(documents, prune=True)
        made_by = f"{fingerprint(settings)}:{rag.index.version}:{type(chat).__name__ if chat else ''}"
        for done, question in enumerate(questions):
            for name in _rotated(list(chosen), done):
                method = chosen[name]
                if progress is not None:
                    progress(name, done, len(questions))
                attempt = Attempt(rag, question, f"eval:{name}:{made_by}", name, chat)
                answer = _stored(attempt, method)
                kept += answer is not None
                outcomes[name].append(_outcome(rag, question, answer or method.answer(attempt)))
        if progress is not None:
            progress("", len(questions), len(questions))
        count = rag.index.count()[0]
    return Evaluation(dataset.name, split, count, {m: tuple(found) for m, found in outcomes.items()}, kept)


def _rotated(names: list[str], number: int) -> list[str]:
    """Another method begins each question: the first to see a passage pays for what the others find in caches."""
    first = number % len(names)
    return names[first:] + names[:first]


def place_in(store: Path, file: Path, extra_documents: Path | None = None) -> Path:
    """The folder in ``store`` for the evaluation of one file: every data set is searched by itself."""
    parts = [path.resolve() for path in (file, extra_documents) if path is not None]
    digest = hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()
    return store / f"{parts[0].stem}-{digest[:6]}"


def distinct(evaluations: Sequence[tuple[Path, Evaluation]]) -> list[Evaluation]:
    """The evaluations of several files; where two are of the same data set, the names of the files tell them apart."""
    names = [evaluation.dataset for _, evaluation in evaluations]
    return [
        replace(e, dataset=f"{e.dataset} ({file.name})") if names.count(e.dataset) > 1 else e
        for file, e in evaluations
    ]


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


def _stored(attempt: Attempt, method: Method) -> Answer | None:
    return attempt.rag.pools.find_answer(
        job=attempt.job,
        question_id=attempt.question.id,
        question=attempt.question.question.strip(),
        config_hash=method.config_hash(attempt.rag.settings),
    )


def _outcome(rag: RagPool, question: QuestionRecord, answer: Answer) -> Outcome:
    gold = set(question.evidence)
    found = [e for e in answer.evidence if e.status is EvidenceStatus.ADMITTED]
    documents = [e.document_id for e in found]
    answerable = bool(question.answers)
    right_refusal = float(answer.status is AnswerStatus.INSUFFICIENT and not answerable)
    return Outcome(
        question_id=question.id,
        question=question.question,
        kind=str(question.metadata.get("type", "")),
        answerable=answerable,
        golds=question.answers,
        gold=question.evidence,
        answer=answer,
        em=exact_match(answer.answer, question.answers) if answerable else right_refusal,
        f1=token_f1(answer.answer, question.answers) if answerable else right_refusal,
        recall={k: recall_at(documents, gold, k) for k in DEPTHS},
        complete={k: recall_at(documents, gold, k) == 1.0 for k in DEPTHS},
        retrieved_recall=recall_at(documents, gold, len(documents)),
        cited_recall=recall_at([c.document_id for c in answer.citations], gold, len(answer.citations)),
        by_round=tuple(
            recall_at(list(_held(found, number)), gold, len(found)) for number in range(answer.rounds)
        ),
        duplicates=sum(e.status is EvidenceStatus.DUPLICATE for e in answer.evidence),
        verdicts=_verdicts(rag.pools.pool(answer.run_id).judgements, found, gold, answerable),
    )


def _held(found: Sequence[Evidence], number: int) -> set[str]:
    """The documents that the pool held after a round."""
    return {e.document_id for e in found if e.round <= number}


def _verdicts(
    judgements: Sequence[tuple[int, Judgement]], found: Sequence[Evidence], gold: set[str], answerable: bool
) -> tuple[Verdict, ...]:
    """Every judgement against what the pool held in its round; none where the gold evidence is not known.

    The evidence for a question that the documents do not answer is never complete.
    """
    if answerable and not gold:
        return ()
    return tuple(
        Verdict(j.probability, j.sufficient, answerable and gold <= _held(found, number))
        for number, j in judgements
    )
