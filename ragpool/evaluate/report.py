"""The report: one HTML file that needs nothing else, with tables and plots for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ragpool.evaluate.harness import Outcome
from ragpool.evaluate.methods import METHODS
from ragpool.evaluate.metrics import bootstrap, reliability
from ragpool.evaluate.plots import Point, cost_plot, reliability_plot, rounds_plot
from ragpool.evaluate.rows import GAINS, KIND_COLUMNS, ROWS, Sheet
from ragpool.evaluate.summary import Figures, recall_by_round

_STYLE = """
:root { color-scheme: light dark; --ground: #fdfdfc; --ink: #1d2126; --soft: #5d6570; --rule: #d9dce0; --band: #f2f3f5;
  --c0: #6b7280; --c1: #b45309; --c2: #9a7500; --c3: #a8326e; --c4: #0f766e; --c5: #1d5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181c; --ink: #e6e8eb; --soft: #a2aab4; --rule: #363c44; --band: #1e2328;
    --c0: #aab2bd; --c1: #f59e55; --c2: #e3c14f; --c3: #f08cba; --c4: #4fd1c0; --c5: #79aefc; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, figcaption { color: var(--soft); max-width: 46rem; margin: .25rem 0; } figcaption { font-size: .85rem; }
code { font: .85em ui-monospace, monospace; color: var(--ink); overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: 1rem 1.5rem; margin: 1rem 0; }
figure { margin: 0; } figure h3 { margin: 0 0 .25rem; } svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { padding: .2rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, .kinds td:nth-child(2), .kinds th:nth-child(2) { text-align: left; }
thead th { border-bottom: 2px solid var(--soft); } tbody tr:nth-child(even) { background: var(--band); }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--soft); } .tick, .name { fill: var(--soft); }
.tick { font-size: 10.5px; } .name { font-size: 11.5px; } .label { font-size: 11.5px; font-weight: 600; }
.ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .thin { stroke-width: 1; } .bar { stroke-width: 1.5; }
.mark { stroke: var(--ground); stroke-width: 1; }
"""
_SERIES = "".join(
    f".line.s{n}, .bar.s{n} {{ stroke: var(--c{n}); }} .mark.s{n}, .label.s{n} {{ fill: var(--c{n}); }}\n"
    for n in range(6)
)


def report(sheets: Sequence[Sheet], command: str = "", made_by: Mapping[str, str] | None = None) -> str:
    """An HTML page. ``command`` is what makes it again, ``made_by`` is said of models and settings at its top."""
    facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in (made_by or {}).items())
    head = ["<h1>ragpool evaluation</h1>"]
    head += [f"<p><code>{escape(command)}</code></p>"] if command else []
    head += [f"<p>{facts}</p>"] if facts else []
    head.append(
        "<p>Every method searches the same index and has the same models, reader, generator and context budget. "
        "Differences are to single-shot on the same questions, with paired 95 % bootstrap intervals. "
        "Evidence figures count gold documents.</p>"
    )
    body = "\n".join([*head, *map(_section, sheets)])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>ragpool evaluation</title>\n<style>{_STYLE}{_SERIES}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(sheet: Sheet) -> str:
    parts = [f"<h2>{escape(sheet.title)}</h2>", _plots(sheet), _table(sheet.figures)]
    compared = [f for f in sheet.figures if f.gains]
    if compared:
        rows = [[name, *map(write, compared)] for name, write in GAINS.items()]
        title = "<h3>Difference to single-shot, with its paired 95 % interval</h3>"
        parts += [title, _html("", ["", *(f.method for f in compared)], rows)]
    if len(sheet.kinds) > 1:
        parts += ["<h3>By question type</h3>", _kinds(sheet.kinds)]
    return "\n".join(parts)


def _plots(sheet: Sheet) -> str:
    outcomes = sheet.evaluation.outcomes
    order = [*METHODS, *(name for name in outcomes if name not in METHODS)]
    rounds = {name: recall_by_round(found) for name, found in outcomes.items()}
    judged = {name: reliability(*_judged(found)) for name, found in outcomes.items() if _judged(found)[0]}
    costs = {f.method: _point(f, outcomes[f.method]) for f in sheet.figures if f.questions}
    shown = [
        (
            "Recall by round",
            rounds_plot(rounds, order),
            "Gold documents in the pool after each round; a run that has stopped keeps what it had.",
        ),
        (
            "Quality against tokens",
            cost_plot(costs, order),
            "Mean F1 with its 95 % interval, and prompt and completion tokens a question.",
        ),
    ]
    if judged:
        caption = (
            "On the dashed line a judge's probability means what it says. Larger marks are more judgements."
        )
        shown.insert(1, ("Reliability of the judge", reliability_plot(judged, order), caption))
    figures = [
        f"<figure><h3>{title}</h3>{svg}<figcaption>{caption}</figcaption></figure>"
        for title, svg, caption in shown
    ]
    return f'<div class="plots">{"".join(figures)}</div>'


def _judged(outcomes: Sequence[Outcome]) -> tuple[list[float], list[bool]]:
    verdicts = [v for o in outcomes for v in o.verdicts]
    return [v.probability for v in verdicts], [v.complete for v in verdicts]


def _point(figures: Figures, outcomes: Sequence[Outcome]) -> Point:
    low, high = bootstrap([o.f1 for o in outcomes])
    return Point(figures.tokens, figures.f1, low, high)


def _table(figures: Sequence[Figures]) -> str:
    rows = [[name, *map(write, figures)] for name, write in ROWS.items()]
    told = [row for row in rows if any(cell != "-" for cell in row[1:])]
    return _html("", ["", *(f.method for f in figures)], told)


def _kinds(kinds: Mapping[str, Sequence[Figures]]) -> str:
    rows = [
        [kind, f.method, *(write(f) for write in KIND_COLUMNS.values())]
        for kind, found in kinds.items()
        for f in found
    ]
    return _html("kinds", ["type", "method", *KIND_COLUMNS], rows)


def _html(style: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heading = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide {style}">{table}</div>'
