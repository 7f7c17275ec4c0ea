"""The trained judge: a few small networks over the features of a pool. CPU, no language model, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragpool.errors import ModelError
from ragpool.feedback.base import insufficient
from ragpool.feedback.features import NAMES, Features
from ragpool.feedback.gaps import open_gaps
from ragpool.feedback.passages import Vector
from ragpool.models.cached import TextEmbedder
from ragpool.types import Binding, Evidence, Judgement, Question, Usage

WEIGHTS = Path(__file__).parents[1] / "weights" / "judge"


@dataclass(frozen=True)
class Network:
    """An ensemble of networks with one hidden layer; its mean logit is calibrated by ``scale`` and ``shift``.

    Arrays: mean, std [features]; w1 [networks, features, hidden]; b1 [networks, hidden]; w2 [networks,
    hidden]; b2 [networks].
    """

    version: str
    embedder: str
    scale: float
    shift: float
    arrays: Mapping[str, Vector]

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Network:
        """Read ``model.safetensors`` and ``config.json``. Raises ModelError when they do not fit this version."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            arrays = load_file(folder / "model.safetensors")
            if tuple(config["features"]) != NAMES:
                raise ModelError(
                    f"{folder}: judge of another version of ragpool; re-make it with 'ragpool train judge'"
                )
            return cls(config["version"], config["embedder"], config["scale"], config["shift"], arrays)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{folder}: not a trained judge ({error}); make one with 'ragpool train judge'"
            ) from error

    def logits(self, rows: Vector) -> Vector:
        """Uncalibrated logits [n] of feature rows [n, features]."""
        a = self.arrays
        x = np.clip((rows - a["mean"]) / a["std"], -6, 6)
        hidden = np.maximum(np.einsum("nf,efh->neh", x, a["w1"]) + a["b1"], 0)
        return np.asarray((np.einsum("neh,eh->ne", hidden, a["w2"]) + a["b2"]).mean(axis=1), np.float32)

    def probabilities(self, rows: Vector) -> Vector:
        """Calibrated probabilities [n] that the pools are sufficient."""
        return np.asarray(1 / (1 + np.exp(-(self.scale * self.logits(rows) + self.shift))), np.float32)


class TrainedJudge:
    """Judges the pool as a set, with or without a plan and closed slots.

    ``embedder`` must be the one that ``network`` (default: the shipped one) was trained with; ``threshold`` is
    the calibrated probability that counts as sufficient. The order of the evidence does not matter.
    """

    def __init__(
        self, embedder: TextEmbedder, *, threshold: float = 0.5, network: Network | None = None
    ) -> None:
        self._network = network or Network.load()
        self._features = Features(embedder)
        self._threshold = threshold

    @property
    def name(self) -> str:
        return f"trained@{self._network.version}"

    def judge(
        self, question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding] = ()
    ) -> tuple[Judgement, Usage]:
        if not evidence:
            return insufficient(question, bindings, self.name), Usage()
        row = self._features(question, evidence, bindings)
        # Rounded: a vector's last digits depend on the batch in which it was embedded.
        probability = round(float(self._network.probabilities(row[None])[0]), 4)
        gaps = open_gaps(question, bindings)
        return (
            Judgement(probability >= self._threshold, probability, gaps, self.name, tuple(bindings)),
            Usage(),
        )
