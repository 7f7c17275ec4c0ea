"""Settings to the parts of the loop. The one place where implementations are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ragpool import __version__, models, prompts
from ragpool.closing import SlotCloser
from ragpool.distil import Distiller
from ragpool.feedback import load_judge
from ragpool.generate import ChatGenerator, Generator, SlotGenerator
from ragpool.index import Index
from ragpool.models.cached import CachedEmbedder
from ragpool.pipeline import Steps
from ragpool.plan import Planner, PromptedPlanner, RulePlanner, TrainedPlanner, adapter_folder
from ragpool.prompts.delimiter import delimiter_key
from ragpool.refine import Refiner, TitleIndex
from ragpool.retrieve import retriever
from ragpool.settings import Settings
from ragpool.slots import PairReader, PromptedReader, SlotReader

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ragpool.models import LocalModel


_PROMPTS = ("plan", "read", "triples", "extract", "answer", "judge")


def build(settings: Settings, index: Index, chat: BaseChatModel | None = None) -> Steps:
    """The steps of the loop over an open index.

    With the embedded model the planner, the reader and the generator are the small trained ones; with any other
    model (named in the settings, or handed over as ``chat``) they are prompts to it. Raises SettingsError or
    MissingExtraError when a model cannot be had.
    """
    embedder = CachedEmbedder(index.embedder)  # the judge weighs the sentences that the distiller has weighed
    distiller = Distiller(embedder)
    trained = chat is None and settings.models.chat == models.EMBEDDED
    planner: Planner
    reader: SlotReader
    generator: Generator
    count: Callable[[str], int]
    if trained:
        local = _embedded(settings)
        planner = TrainedPlanner(local, settings.own_weights("plan"))
        kv = models.kv_choice(settings.generator.kv, settings.own_weights("heads"))
        folder = settings.own_weights("spans") or adapter_folder("spans")
        adapter = settings.own_weights("reader") or adapter_folder("reader")
        reader = PairReader(models.span_model(folder, settings.models), local, folder, adapter, kv)
        generator = SlotGenerator(distiller, abstain=settings.generator.abstain)
        name, count = local.version, local.count_tokens
    else:
        chat = chat or models.load_chat(settings.models)
        name, count = _chat_name(settings, chat), _approximate_tokens
        planner, reader = PromptedPlanner(chat), PromptedReader(chat)
        key = delimiter_key(settings.models.prefix_folder)
        answering = models.with_kv(chat, settings.generator.kv, settings.own_weights("heads"))
        generator = ChatGenerator(answering, f"chat:{name}", distiller, key)
    if settings.planner.kind == "rules":
        planner = RulePlanner()
    judge = load_judge(settings, embedder=embedder, chat=chat)
    return Steps(
        index=index,
        retriever=retriever(index, settings),
        planner=planner,
        reader=reader,
        distiller=distiller,
        closer=SlotCloser(distiller, lambda title: bool(index.titles().find(title))),
        judge=judge,
        refiner=Refiner(distiller, TitleIndex(index.title_list())),
        generator=generator,
        count_tokens=count,
        models={
            "ragpool": __version__,
            "chat": name,
            "embedder": index.embedder.version,
            "planner": planner.name,
            "reader": reader.name,
            "judge": judge.name,
            "generator": generator.name,
            "kv": str(models.kv_choice(settings.generator.kv) or "off"),
        },
        prompts={name: prompts.load(name).sha for name in _PROMPTS},
    )


def _embedded(settings: Settings) -> LocalModel:
    local = models.local_model(settings.models)
    assert local is not None  # the embedded model is always local
    return local


def _chat_name(settings: Settings, chat: BaseChatModel) -> str:
    return settings.models.chat if settings.models.chat != models.EMBEDDED else type(chat).__name__


def _approximate_tokens(text: str) -> int:
    """Four characters a token: a remote model's tokeniser is not here."""
    return len(text) // 4 + 1
