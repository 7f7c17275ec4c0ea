"""The methods by name. ragpool's own two go through ``RagPool.ask``, the published ones through a Trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ragpool.corpus import QuestionRecord
from ragpool.errors import SettingsError
from ragpool.evaluate.ircot import IRCoT
from ragpool.evaluate.iter_retgen import IterRetGen
from ragpool.evaluate.s2g import S2G
from ragpool.evaluate.trial import Baseline, Trial
from ragpool.sdk import RagPool
from ragpool.settings import Method as OwnMethod
from ragpool.settings import Settings
from ragpool.types import Answer

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True, slots=True)
class Attempt:
    """One question for one method. Runs of the same ``job`` and settings are one run. ``chat`` as for Trial."""

    rag: RagPool
    question: QuestionRecord
    job: str
    name: str
    chat: BaseChatModel | None = None


class Method(Protocol):
    """Answers a question from the index. ``config_hash`` is that of the settings it runs under."""

    def config_hash(self, settings: Settings) -> str: ...

    def answer(self, attempt: Attempt) -> Answer: ...


@dataclass(frozen=True, slots=True)
class _Own:
    method: OwnMethod

    def config_hash(self, settings: Settings) -> str:
        return settings.model_copy(update={"method": self.method}).config_hash()

    def answer(self, attempt: Attempt) -> Answer:
        question = attempt.question
        return attempt.rag.ask(question.question, id=question.id, job=attempt.job, method=self.method)


@dataclass(frozen=True, slots=True)
class _Published:
    baseline: Baseline

    def config_hash(self, settings: Settings) -> str:
        return settings.config_hash()

    def answer(self, attempt: Attempt) -> Answer:
        rag, question = attempt.rag, attempt.question
        steps = rag.steps
        pool = rag.pools.open_run(
            question_id=question.id,
            question=question.question.strip(),
            method=attempt.name,
            config_hash=self.config_hash(rag.settings),
            corpus_version=rag.index.version,
            models=dict(steps.models),
            prompts=dict(steps.prompts),
            job=attempt.job,
        )
        return pool.answer or self.baseline.answer(Trial(pool, steps, rag.settings, attempt.chat))


METHODS: dict[str, Method] = {
    "single": _Own("single"),
    "iter-retgen-2": _Published(IterRetGen(2)),
    "iter-retgen-3": _Published(IterRetGen(3)),
    "ircot": _Published(IRCoT()),
    "s2g": _Published(S2G()),
    "ragpool": _Own("ragpool"),
}

_GROUPS = {"iter-retgen": ("iter-retgen-2", "iter-retgen-3"), "all": tuple(METHODS)}


def named(names: Sequence[str]) -> dict[str, Method]:
    """The methods of these names, each once. ``iter-retgen`` stands for both of its kinds, ``all`` for all.

    Raises SettingsError for a name that is none, and when there are no names.
    """
    wanted = [method for name in names for method in _GROUPS.get(name, (name,))]
    unknown = [name for name in wanted if name not in METHODS]
    if unknown or not wanted:
        what = f"no method {', '.join(unknown)}" if unknown else "no method is named"
        raise SettingsError(f"{what}: choose from {', '.join((*METHODS, *_GROUPS))}")
    return {name: METHODS[name] for name in wanted}
