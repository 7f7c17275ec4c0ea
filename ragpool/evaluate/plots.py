"""Three plots as SVG text: recall by round, reliability, quality against tokens.

Nothing but shapes and classes: the page that holds them gives the colours, for light and for dark. A series is
coloured by its number in ``order``, the same in every plot, and told apart by its marker as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10, sqrt

from ragpool.evaluate.metrics import Bin

WIDTH, HEIGHT = 460, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 104, 14, 42
_LABEL_GAP = 14  # between two labels at the ends of lines
_MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-4,-4h8v8h-8z",
    "M0,-5l5,9h-10z",
    "M0,-5.5l5.5,5.5l-5.5,5.5l-5.5,-5.5z",
    "M0,5l5,-9h-10z",
    "M-5,-1.7h3.3v-3.3h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3z",
)


@dataclass(frozen=True, slots=True)
class Point:
    """A method's quality at its cost: F1 with its 95 % interval, and tokens a question."""

    tokens: float
    f1: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps data to the plot's area."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    def axes(self, xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str) -> list[str]:
        right, base = WIDTH - _RIGHT, HEIGHT - _BOTTOM
        parts = []
        for value in ys:
            _, at = self.at(self.x[0], value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{_LEFT - 6}" y="{at + 3.5:.1f}" text-anchor="end">{value:.1f}</text>'
            )
        for value in xs:
            at, _ = self.at(value, self.y[0])
            written = f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:.1f}"
            parts.append(
                f'<text class="tick" x="{at:.1f}" y="{base + 15}" text-anchor="middle">{written}</text>'
            )
        middle = (_LEFT + right) / 2
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
        parts.append(
            f'<text class="name" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>'
        )
        up = f"translate(12 {(_TOP + base) / 2}) rotate(-90)"
        parts.append(f'<text class="name" transform="{up}" text-anchor="middle">{escape(y_name)}</text>')
        return parts  # fmt: skip


def rounds_plot(series: Mapping[str, Sequence[float]], order: Sequence[str]) -> str:
    """Mean recall of the gold evidence in the pool after each round, a line a method."""
    series = {name: values for name, values in series.items() if values}
    last = max((len(values) for values in series.values()), default=1) - 1
    series = {name: [*values, *[values[-1]] * (last + 1 - len(values))] for name, values in series.items()}
    lowest = min((min(values) for values in series.values()), default=0.0)
    frame = _Frame((0, max(last, 1)), (min(floor(lowest * 10 - 0.01) / 10, 0.9) if lowest > 0 else 0.0, 1.0))
    parts = frame.axes(range(max(last, 1) + 1), _steps(*frame.y), "round", "recall of the pool")
    ends: list[tuple[float, float, str]] = []
    for name, values in series.items():
        points = [frame.at(number, value) for number, value in enumerate(values)]
        style = _style(name, order)
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<path class="line {style}" d="{path}"/>')
        parts += [
            _marker(name, order, x, y, f"{name}, round {n}: {value:.3f}")
            for n, ((x, y), value) in enumerate(zip(points, values, strict=True))
        ]
        ends.append((*points[-1], name))
    parts += _labels(ends, order)
    return _svg(parts, "Recall of the gold evidence by round")


def reliability_plot(series: Mapping[str, Sequence[Bin]], order: Sequence[str]) -> str:
    """How often the evidence was complete where the judge said so with this probability. Area: how many judgements."""
    frame = _Frame((0, 1), (0, 1))
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = frame.axes(ticks, ticks, "probability given by the judge", "share with complete evidence")
    (x1, y1), (x2, y2) = frame.at(0, 0), frame.at(1, 1)
    parts.append(f'<line class="ideal" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    ends: list[tuple[float, float, str]] = []
    most = max((b.count for bins in series.values() for b in bins), default=1)
    for name, bins in series.items():
        points = [frame.at(b.probability, b.share) for b in bins]
        if not points:
            continue
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<path class="line thin {_style(name, order)}" d="{path}"/>')
        for (x, y), b in zip(points, bins, strict=True):
            said = f"{name}: {b.count} judgements of about {b.probability:.2f}, {b.share:.2f} complete"
            parts.append(_marker(name, order, x, y, said, 0.7 + 1.3 * sqrt(b.count / most)))
        ends.append((WIDTH - _RIGHT, points[-1][1], name))
    parts += _labels(ends, order)
    return _svg(parts, "Reliability of the judge")


def cost_plot(series: Mapping[str, Point], order: Sequence[str]) -> str:
    """F1 with its 95 % interval against tokens a question."""
    most = max((point.tokens for point in series.values()), default=1.0)
    step = _round_step(max(most, 1.0) * 1.08)
    highest = ceil(max((point.high for point in series.values()), default=1.0) * 10) / 10
    frame = _Frame((0, max(most, 1.0) * 1.08), (0, max(min(highest, 1.0), 0.1)))
    xs = [step * n for n in range(int(frame.x[1] // step) + 1)]
    parts = frame.axes(xs, _steps(*frame.y), "tokens a question", "F1")
    ends: list[tuple[float, float, str]] = []
    for name, point in series.items():
        x, y = frame.at(point.tokens, point.f1)
        low, high = frame.at(point.tokens, point.low)[1], frame.at(point.tokens, point.high)[1]
        parts.append(
            f'<line class="bar {_style(name, order)}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        )
        said = f"{name}: F1 {point.f1:.3f} [{point.low:.3f}, {point.high:.3f}] for {point.tokens:.0f} tokens"
        parts.append(_marker(name, order, x, y, said, 1.2))
        ends.append((x, y, name))
    parts += _labels(ends, order)
    return _svg(parts, "F1 against tokens")


def _style(name: str, order: Sequence[str]) -> str:
    return f"s{order.index(name) % len(_MARKERS)}"


def _marker(name: str, order: Sequence[str], x: float, y: float, said: str, size: float = 0.9) -> str:
    shape = _MARKERS[order.index(name) % len(_MARKERS)]
    place = f"translate({x:.1f} {y:.1f}) scale({size:.2f})"
    return f'<path class="mark {_style(name, order)}" transform="{place}" d="{shape}"><title>{escape(said)}</title></path>'


def _labels(ends: Sequence[tuple[float, float, str]], order: Sequence[str]) -> list[str]:
    """A name beside each end; names that would lie on one another are moved apart, and none leaves the plot."""
    inside = sorted(ends, key=lambda end: (end[1], order.index(end[2])))
    heights = [y for _, y, _ in inside]

    def crowd(one: int, other: int) -> bool:
        return abs(inside[one][0] - inside[other][0]) < _RIGHT

    for n in range(len(inside)):  # downwards
        above = [heights[m] + _LABEL_GAP for m in range(n) if crowd(m, n)]
        heights[n] = max([heights[n], *above])
    for n in reversed(range(len(inside))):  # and back up from the axis
        below = [heights[m] - _LABEL_GAP for m in range(n + 1, len(inside)) if crowd(m, n)]
        heights[n] = min([heights[n], HEIGHT - _BOTTOM - 8, *below])
    return [
        f'<text class="label {_style(name, order)}" x="{x + 11:.1f}" y="{y + 3.5:.1f}">{escape(name)}</text>'
        for (x, _, name), y in zip(inside, heights, strict=True)
    ]


def _steps(low: float, high: float) -> list[float]:
    """Ticks at tenths, at fifths where there would be many."""
    step = 1 if high - low <= 0.5 else 2
    first, last = round(low * 10), round(high * 10)
    return [n / 10 for n in range(first + (first % step), last + 1, step)]


def _round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten, such that there are three to seven steps."""
    power = 10.0 ** floor(log10(span / 3))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= span / 3)


def _svg(parts: Sequence[str], title: str) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'
