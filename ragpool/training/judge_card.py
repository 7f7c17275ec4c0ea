"""The card that ships with a trained judge: what it is, what it saw, how it did on held-back questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LICENCES = {
    "hotpotqa": "HotpotQA (arXiv 1809.09600), CC BY-SA 4.0",
    "2wikimultihopqa": "2WikiMultihopQA (arXiv 2011.01060), Apache-2.0",
    "musique": "MuSiQue-Ans (arXiv 2108.00573), CC BY 4.0",
    "zembrissa": "invented worlds (`corpora/zembrissa/generate.py --seed 101 102 --benchmark FILE`), CC0",
}
_COLUMNS = ("pools", "macro_f1", "auroc", "ece", "false_positives", "false_negatives")


def judge_card(
    result: Mapping[str, Any],
    *,
    files: Sequence[str],
    questions: Mapping[str, tuple[int, int]],
    pools: int,
    seed: int,
    shipped: str,
    embedder: str,
) -> str:
    """Markdown. ``questions`` maps a data set to its numbers of training and held-back questions."""
    data = "\n".join(
        f"- {_LICENCES.get(name, name)}: {train} training questions, {dev} held back"
        for name, (train, dev) in questions.items()
    )
    return f"""# The trained judge

Is a pool of passages, taken as a set, enough to answer a question? An ensemble of networks with one hidden layer over
features of the pool (`ragpool/feedback/features.py`): similarity of sentences, names of the question and titles, links
between passages, the plan's look-ups followed through those links, closed slots. Sentence vectors come from
`{embedder}`. No language model, no network, deterministic, independent of the order of the passages.

- files: `model.safetensors` (weights), `config.json` (feature names, calibration), `figures.json` (the tables below)
- command: `ragpool train judge {" ".join(files)} --out DIR --seed {seed}`
- shipped: the candidate `{shipped}`

## Data

Samples of the training splits only; of invented worlds others than the sample corpus. Held back: three questions in ten, by
a hash of the id; no training sees them.

{data}

No text of these sets is in the weights. {pools} training pools: complete, one gold passage missing, only distractors
(2 to 10 passages, shuffled; distractors are what one hybrid search ranks high, the question's own context, passages that
share a title word with the missing one, and decoys: pages that a gold passage names, but not the one that is asked for),
and *looped* pools: what one hybrid search brings, alone or with
the hits of later look-ups, as the loop pools them. A pool is sufficient when it holds all gold passages and the question has
an answer: those of the invented worlds that ask for a fact not told are never sufficient.

**Simulated.** No planner and no slot reader is run in training. Part of the pools carries the gold plan, spoiled in half of
them (2WikiMultihopQA: a fifth) by the errors that a planner makes: another relation, a chain too few, a step too many or too
few, a wrong subject. Part of those carry closed slots made from the gold answers: right for 30 to 65 % (2WikiMultihopQA: 70
to 98 %; differing from pool to pool) of the steps whose passage is in the pool, about what the loop closes, wrong for a
quarter of the rest, and a wrong value for 15 % of the steps whose passage is not. These shares were set by what the loop did
on held-back questions. Figures with plan or slots below rest on the same simulation. Questions without a gold plan (all
held-back HotpotQA ones) are judged without one in every row.

## Held-back questions, threshold .5

FP: insufficient pools called sufficient, of the insufficient ones. FN: the reverse. The rules judge's probability is not
meant as one: its ECE says so.

{_table(result)}
"""


def _table(result: Mapping[str, Any]) -> str:
    lines = [
        "| candidate | given | data set | pools | n | macro-F1 | AUROC | ECE | FP | FN |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for candidate, settings in result.items():
        for setting, sets in settings.items():
            for dataset, kinds in sets.items():
                for kind, row in kinds.items():
                    cells = [str(row["pools"]), *(f"{row[c]:.3f}" for c in _COLUMNS[1:])]
                    lines.append(f"| {candidate} | {setting} | {dataset} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)
