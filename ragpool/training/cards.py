"""Train, measure and describe a shipped adapter: what ``ragpool train plan|reader`` runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ragpool import plan as plan_module
from ragpool import prompts, slots
from ragpool.errors import SettingsError
from ragpool.training import lora, plan, reader

_LICENCES = {
    "hotpot": "HotpotQA (CC BY-SA 4.0)",
    "2wiki": "2WikiMultihopQA (Apache-2.0)",
    "musique": "MuSiQue-Ans (CC BY 4.0)",
}
_ABOUT = {
    "plan": "Writes a question's plan, one look-up a line (`subject | relation | ?n`), and for a comparison its operation.",
    "reader": "Reads the shortest answer to a look-up or a question from distilled sentences, or says `none`.",
}
_PROMPT = {"plan": ("plan", plan_module.PLAN_PROMPT_VERSION), "reader": ("read", slots.READ_PROMPT_VERSION)}
_FIGURES = """\
`relations`, `subjects`, `operation`, `plan`: share of questions with a gold plan for which these (`plan`: all of
them) are right. `em`, `f1`: of answers with the gold sentences among distractors. `none`: how often it says so
rightly, and of the unanswerable ones how many it notices. `auroc`: of the completion's mean log-probability for the
answer being right (F1 of at least .5). `calibration_error`: of the confidence fitted to it (on these same answers)."""


def train_adapter(
    kind: str,
    files: Sequence[Path],
    out: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    threads: int = 2,
    log: lora.Log,
) -> dict[str, Any]:
    """Train the ``plan`` or ``reader`` adapter, measure it on the dev split, write its card; all figures.

    Goes on from the last epoch's checkpoint in ``out``. Raises SettingsError for another ``kind``.
    """
    if kind not in _ABOUT:
        raise SettingsError(f"there is no adapter {kind!r} to train; choose one of {', '.join(_ABOUT)}")
    train: Callable[..., dict[str, Any]] = plan.train if kind == "plan" else reader.train
    evaluate = plan.evaluate if kind == "plan" else reader.evaluate
    chosen = {} if epochs is None else {"epochs": epochs}
    trained = train(files, out, seed=seed, threads=threads, log=log, **chosen)
    log("measuring on the dev split")
    held_out = evaluate(files, out)
    write_card(kind, files, out, trained, held_out)
    return {"trained": trained, "dev": held_out}


def write_card(
    kind: str, files: Sequence[Path], out: Path, trained: Mapping[str, Any], held_out: Mapping[str, Any]
) -> None:
    """README.md and figures.json beside the adapter."""
    name, version = _PROMPT[kind]
    data = "\n".join(f"- {file.name}: {_licence(file.name)}" for file in files)
    recipe = json.dumps(trained["recipe"])
    command = f"ragpool train {kind} {' '.join(file.name for file in files)} --out DIR"
    card = f"""# The {kind} adapter

{_ABOUT[kind]}
A LoRA adapter (peft format, float16, {trained["bytes"] / 1e6:.1f} MB) for {lora.BASE_NAME} (Apache-2.0).

- prompt: `ragpool/prompts/{name}.md`, format version {version}, hash {prompts.load(name).sha}
- command: `{command}`
- recipe: `{recipe}`
- examples an epoch: {trained["examples"]}; tokens an epoch: {trained["tokens"]}
- loss by epoch: {trained["losses"]}; {trained["seconds"]:.0f} seconds of training

## Data

{data}

Samples of the training splits. Questions whose id hashes below 3 of 10 (`ragpool.training.data.is_dev`) were held
out from training.

## Figures on the held-out questions

```json
{json.dumps(held_out, indent=2)}
```

{_FIGURES}
"""
    (out / "README.md").write_text(card, encoding="utf-8")
    figures = {"kind": kind, "prompt_version": version, "trained": dict(trained), "dev": dict(held_out)}
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _licence(name: str) -> str:
    return next((text for key, text in _LICENCES.items() if key in name.casefold()), "your own data")
