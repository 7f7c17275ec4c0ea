"""``ragpool train judge``: pools from benchmark files -> features -> networks -> calibrated weights with figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ragpool.errors import InputError
from ragpool.feedback.features import NAMES, Features
from ragpool.feedback.passages import Vector
from ragpool.feedback.rules import RulesJudge
from ragpool.feedback.trained import Network
from ragpool.models.cached import CachedEmbedder, TextEmbedder
from ragpool.training import written
from ragpool.training.data import MUSIQUE, Record, dev_split, read_records, training_split
from ragpool.training.judge_card import judge_card
from ragpool.training.metrics import figures
from ragpool.training.network import Recipe, calibrate, fit, pick
from ragpool.training.pools import Corpus, Pool, make_pools
from ragpool.training.trees import BoostedTrees
from ragpool.training.vectors import StoredEmbedder

Log = Callable[[str], None]

VERSION = "3"
FOLDS = 5
FOLD_NETWORKS = 3  # a fold's logits are a mean too, so that calibration sees what inference will see
TRAIN_POOLS = 600  # about this many rounds of pools a data set, however many questions it has
DEV_POOLS = 150
CANDIDATES = {"logistic": Recipe(hidden=0), "networks": Recipe()}
SHIPPED = "networks"
SETTINGS = {"no plan": (0.0, 0.0), "plan": (1.0, 0.0), "plan and slots": (1.0, 1.0)}  # shares of pools


@dataclass(frozen=True)
class Table:
    """Pools with their feature rows [n, features]."""

    pools: tuple[Pool, ...]
    rows: Vector

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        return np.array([p.sufficient for p in self.pools])

    def where(self, keep: Callable[[Pool], bool]) -> Table:
        index = [i for i, p in enumerate(self.pools) if keep(p)]
        return Table(tuple(self.pools[i] for i in index), self.rows[index])


def train(
    files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    embedder: TextEmbedder | None = None,
    vectors: Path | None = None,
    log: Log = lambda line: None,
) -> dict[str, Any]:
    """Train on the training split of ``files``, measure on the held-back questions, write the judge to ``out``.

    Writes model.safetensors, config.json, figures.json and the card README.md; returns the figures: candidate -> setting
    -> data set -> kind of pools -> figures. ``embedder`` None is the embedded one.
    ``vectors`` is a folder in which sentence vectors are kept for the next run.
    Raises InputError when a split is empty, LoadError for a file of another format.
    """
    records = read_records(files)
    if not training_split(records) or not dev_split(records):
        raise InputError("too few questions to hold some back; give files with more questions")
    if embedder is None:
        from ragpool import models
        from ragpool.settings import Settings

        embedder = models.load_embedder(Settings().models)
    version = str(getattr(embedder, "version", "unknown"))
    kept = embedder if vectors is None else StoredEmbedder(embedder, vectors)
    cached = CachedEmbedder(kept, size=1_000_000)
    learn = training_table(records, cached, seed=seed, log=log)
    dev = {name: dev_table(records, cached, setting, seed=seed) for name, setting in SETTINGS.items()}
    log(f"{len(learn.pools)} training pools, {sum(len(t.pools) for t in dev.values())} held back")
    result: dict[str, Any] = {"rules": {name: by_dataset(t, rules_scores(t), 0.5) for name, t in dev.items()}}
    for name, recipe in CANDIDATES.items():
        network = fit_network(learn, replace(recipe, seed=seed), version)
        result[name] = {s: by_dataset(t, network.probabilities(t.rows), 0.5) for s, t in dev.items()}
        log(f"{name}: {summary(result[name])}")
        if name == SHIPPED:
            save(network, out)
    if BoostedTrees.available():
        score = fit_trees(learn, seed)
        result["boosted trees"] = {s: by_dataset(t, score(t.rows), 0.5) for s, t in dev.items()}
        log(f"boosted trees: {summary(result['boosted trees'])}")
    else:
        log("boosted trees are not compared: scikit-learn is not installed")
    (out / "figures.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    held, seen = _by_dataset(dev_split(records)), _by_dataset(training_split(records))
    card = judge_card(
        result,
        files=[file.name for file in files],
        questions={name: (len(seen.get(name, ())), len(held.get(name, ()))) for name in {**seen, **held}},
        pools=len(learn.pools),
        seed=seed,
        shipped=SHIPPED,
        embedder=version,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return result


def training_table(records: Sequence[Record], embedder: CachedEmbedder, *, seed: int, log: Log) -> Table:
    """Pools of the training questions, and of the written questions on MuSiQue's paragraphs; distractors come from
    training questions only. With those on HotpotQA's and 2WikiMultihopQA's, more incomplete pools of these passed."""
    pools: list[Pool] = []
    benchmark = training_split(records)
    for dataset, own in _by_dataset(benchmark).items():
        more = written.records(own) if dataset == MUSIQUE else []
        log(f"{dataset}: {len(own)} training questions, {len(more)} written ones")
        corpus = Corpus(own, embedder)
        for asked in (own, more):
            rounds = min(8, max(1, TRAIN_POOLS // max(1, len(asked))))
            pools += make_pools(asked, corpus, seed=seed, rounds=rounds, plan_share=0.7, binding_share=0.6)
    return _table(pools, embedder)


def dev_table(
    records: Sequence[Record], embedder: CachedEmbedder, setting: tuple[float, float], *, seed: int
) -> Table:
    """Pools of the held-back questions, over the passages of all questions."""
    pools: list[Pool] = []
    everything = _by_dataset(records)
    for dataset, own in _by_dataset(dev_split(records)).items():
        rounds = min(5, max(1, DEV_POOLS // len(own)))
        plan, bindings = setting
        corpus = Corpus(everything[dataset], embedder)
        pools += make_pools(
            own, corpus, seed=seed + 1, rounds=rounds, plan_share=plan, binding_share=bindings
        )
    return _table(pools, embedder)


def fit_network(table: Table, recipe: Recipe, embedder: str) -> Network:
    """Fit and calibrate; calibration uses logits of questions that the fold's networks did not see."""
    labels, weights, folds = table.labels, pool_weights(table.pools), folds_of(table.pools)
    masks = [weights * (folds != i // FOLD_NETWORKS) for i in range(FOLDS * FOLD_NETWORKS)]
    arrays = fit(table.rows, labels, np.stack([weights] * recipe.networks + masks), recipe)
    logits = np.zeros(len(labels), np.float32)
    for fold in range(FOLDS):
        first = recipe.networks + fold * FOLD_NETWORKS
        part = Network("", "", 1.0, 0.0, pick(arrays, slice(first, first + FOLD_NETWORKS)))
        logits[folds == fold] = part.logits(table.rows[folds == fold])
    scale, shift = calibrate(logits, labels, weights)
    return Network(VERSION, embedder, scale, shift, pick(arrays, slice(0, recipe.networks)))


def fit_trees(table: Table, seed: int) -> Callable[[Vector], Vector]:
    """Feature rows -> probabilities of boosted trees, calibrated as the networks are."""
    labels, weights, folds = table.labels, pool_weights(table.pools), folds_of(table.pools)
    logits = np.zeros(len(labels), np.float32)
    for fold in range(FOLDS):
        part = BoostedTrees(table.rows, labels, weights * (folds != fold), seed=seed)
        logits[folds == fold] = part.logits(table.rows[folds == fold])
    scale, shift = calibrate(logits, labels, weights)
    trees = BoostedTrees(table.rows, labels, weights, seed=seed)
    return lambda rows: np.asarray(1 / (1 + np.exp(-(scale * trees.logits(rows) + shift))), np.float32)


def folds_of(pools: Sequence[Pool]) -> npt.NDArray[np.int_]:
    """The fold of each pool; those of one benchmark question, and of what was written about its paragraphs, share it."""
    question = [written.benchmark_id(p.record) for p in pools]
    fold = {r: i % FOLDS for i, r in enumerate(sorted(set(question)))}
    return np.array([fold[q] for q in question])


def pool_weights(pools: Sequence[Pool]) -> Vector:
    """Each data set counts the same, however many pools it has; of its pools, those of written questions half."""
    groups = [(pool.dataset, written.benchmark_id(pool.record) == pool.record) for pool in pools]
    counts = Counter(groups)
    halves = Counter(dataset for dataset, _ in counts)
    return np.array(
        [len(pools) / len(halves) / halves[group[0]] / counts[group] for group in groups], np.float32
    )


def save(network: Network, out: Path) -> None:
    """model.safetensors and config.json."""
    from safetensors.numpy import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file(dict(network.arrays), out / "model.safetensors")
    config = {
        "version": network.version,
        "embedder": network.embedder,
        "scale": network.scale,
        "shift": network.shift,
        "features": list(NAMES),
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def rules_scores(table: Table) -> Vector:
    """1 or 0 by the rules judge's decision, with its coverage as the tie breaker within each."""
    rules = RulesJudge()
    found = [rules.judge(p.question, p.evidence, p.bindings)[0] for p in table.pools]
    return np.array([0.5 * j.sufficient + 0.499 * j.probability for j in found], np.float32)


def by_dataset(table: Table, probability: Vector, threshold: float) -> dict[str, Any]:
    """Figures by data set, for the controlled and for the looped pools."""
    result: dict[str, Any] = {}
    for dataset in sorted({p.dataset for p in table.pools}):
        for kind in ("controlled", "looped"):
            keep = np.array(
                [p.dataset == dataset and (p.kind == "looped") == (kind == "looped") for p in table.pools]
            )
            result.setdefault(dataset, {})[kind] = figures(probability[keep], table.labels[keep], threshold)
    return result


def summary(by_setting: Mapping[str, Any]) -> str:
    """One line: macro-F1 of the controlled pools."""
    return ", ".join(
        f"{setting} {dataset} {kinds['controlled']['macro_f1']:.3f}"
        for setting, sets in by_setting.items()
        for dataset, kinds in sets.items()
    )


class _Gathering:
    """Answers with the vectors that are known, with zeros for the others, and keeps those others' texts."""

    def __init__(self, embedder: CachedEmbedder) -> None:
        self._embedder = embedder
        self.missing: dict[str, None] = {}

    def embed(self, texts: Sequence[str]) -> Vector:
        known = [text for text in texts if text in self._embedder]
        self.missing.update((text, None) for text in texts if text not in self._embedder)
        if len(known) == len(texts):
            return self._embedder.embed(texts)
        rows = dict(zip(known, self._embedder.embed(known), strict=True)) if known else {}
        zero = np.zeros_like(next(iter(rows.values()), self._embedder.embed([""])[0]))
        return np.stack([rows.get(text, zero) for text in texts])


def _table(pools: Sequence[Pool], embedder: CachedEmbedder) -> Table:
    for _ in range(3):  # one look-up at a time is slow: find out what will be asked for, embed it in batches
        gathering = _Gathering(embedder)
        _rows(pools, gathering)
        embedder.embed(list(gathering.missing))
    return Table(tuple(pools), _rows(pools, embedder))


def _rows(pools: Sequence[Pool], embedder: TextEmbedder) -> Vector:
    features = Features(embedder)
    return np.stack([features(p.question, p.evidence, p.bindings) for p in pools])


def _by_dataset(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.dataset, []).append(record)
    return groups
