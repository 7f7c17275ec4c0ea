"""The judge that the settings name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ragpool import models
from ragpool.feedback.base import Judge
from ragpool.feedback.prompted import PromptedJudge
from ragpool.feedback.rules import RulesJudge
from ragpool.feedback.trained import Network, TrainedJudge
from ragpool.models.cached import CachedEmbedder
from ragpool.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

logger = logging.getLogger(__name__)


def load_judge(
    settings: Settings, *, embedder: models.Embedder | CachedEmbedder, chat: BaseChatModel | None = None
) -> Judge:
    """The judge of ``settings.judge`` with the preset's threshold.

    The prompted judge asks ``chat``, or the settings' chat model when it is None. The trained judge needs
    the embedder that it was trained with, and loads the embedded one when the index uses another.
    Raises SettingsError or ModelError when a model cannot be had.
    """
    threshold = settings.preset.threshold
    if settings.judge.kind == "rules":
        return RulesJudge()
    if settings.judge.kind == "prompted":
        return PromptedJudge(chat or models.load_chat(settings.models), threshold=threshold)
    own = settings.own_weights("judge")
    network = Network.load(own) if own is not None else Network.load()
    if embedder.version != network.embedder:
        embedded = models.load_embedder(settings.models.model_copy(update={"embedder": models.EMBEDDED}))
        logger.info("the judge embeds with %s, the index with %s", embedded.version, embedder.version)
        embedder = embedded
    return TrainedJudge(embedder, threshold=threshold, network=network)
