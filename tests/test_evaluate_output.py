from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import ThinkingChat, compare, write_dataset

from ragpool.cli.figures import print_sheet
from ragpool.errors import InputError
from ragpool.evaluate import METHODS, Evaluation
from ragpool.evaluate.harness import distinct
from ragpool.evaluate.markdown import markdown
from ragpool.evaluate.metrics import Bin
from ragpool.evaluate.outputs import Outputs, command_line
from ragpool.evaluate.plots import Point, cost_plot, reliability_plot, rounds_plot
from ragpool.evaluate.report import report
from ragpool.evaluate.rows import Sheet, gain, share, to_json
from ragpool.evaluate.summary import Gain
from ragpool.settings import Settings

ORDER = tuple(METHODS)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("shown")
    return compare(write_dataset(folder / "world<1>", 2), folder / "s", ThinkingChat())


@pytest.fixture(scope="module")
def sheet(evaluation: Evaluation) -> Sheet:
    return Sheet.of(evaluation)


class Page(HTMLParser):
    """Collects tags, what they refer to, and whether they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestReport:
    def test_it_is_whole_and_asks_for_nothing_else(self, sheet: Sheet) -> None:
        text = report([sheet], "ragpool eval 'a<b'", {"model": "m&m"})
        page = Page(text)
        assert page.open == []
        assert page.references == []
        assert not re.search(r"https?://|@import|url\(|<script", text)
        assert page.seen.count("svg") == 3
        assert "world&lt;1&gt;" in text
        assert "a&lt;b" in text
        assert "m&amp;m" in text
        assert "prefers-color-scheme: dark" in text

    def test_every_method_and_type_has_its_place(self, sheet: Sheet) -> None:
        text = report([sheet])
        for name in [*METHODS, "even", "odd"]:
            assert f">{name}<" in text

    def test_several_data_sets(self, evaluation: Evaluation) -> None:
        two = distinct([(Path("x.jsonl"), evaluation), (Path("y.jsonl"), evaluation)])
        assert [e.dataset for e in two] == ["world<1> (x.jsonl)", "world<1> (y.jsonl)"]
        text = report([Sheet.of(e) for e in two])
        assert text.count("<h2>") == 2
        assert Page(text).open == []

    def test_without_judgements_there_is_no_reliability_diagram(self, evaluation: Evaluation) -> None:
        alone = Evaluation("d", "all", 1, {"single": evaluation.outcomes["single"]})
        assert Page(report([Sheet.of(alone)])).seen.count("svg") == 2


def test_markdown_has_a_row_a_figure_and_a_column_a_method(sheet: Sheet) -> None:
    text = markdown([sheet], "ragpool eval x")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {len(METHODS) + 2}
    assert rows[0].split(" | ")[1:] == [*list(METHODS)[:-1], "ragpool |"]
    assert "ragpool eval x" in text
    assert any(row.startswith("| all evidence within 8 | .000 |") for row in rows)


def test_the_terminal_shows_each_method(sheet: Sheet, capsys: pytest.CaptureFixture[str]) -> None:
    print_sheet(sheet)
    shown = capsys.readouterr().out
    for word in (
        "iter-retgen-2",
        "iter-retgen-3",
        "ircot",
        "s2g",
        "judge AUROC",
        "difference to single",
        "even",
    ):
        assert word in shown


class TestJson:
    def test_one_data_set_is_one_object_without_nan(self, sheet: Sheet) -> None:
        value = json.loads(json.dumps(to_json([sheet], Settings()), allow_nan=False))
        assert list(value["methods"]) == list(METHODS)
        assert value["methods"]["single"]["judge_auroc"] is None
        assert set(value["methods"]["ragpool"]["recall"]) == {"4", "6", "8", "10"}
        assert value["methods"]["ragpool"]["gains"]["f1"].keys() == {"mean", "low", "high"}
        assert {row["type"] for row in value["outcomes"]} == {"even", "odd"}
        assert {"method", "golds", "em", "verdicts", "evidence", "recall_by_round"} <= value["outcomes"][
            0
        ].keys()
        assert set(value["by_type"]) == {"even", "odd"}

    def test_several_are_a_list(self, sheet: Sheet) -> None:
        assert [d["dataset"] for d in to_json([sheet, sheet], Settings())["datasets"]] == ["world<1>"] * 2


def test_outputs_are_written_and_a_missing_folder_is_said_at_once(sheet: Sheet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Outputs(report=tmp_path / "none" / "r.html")
    outputs = Outputs(tmp_path / "e.json", tmp_path / "r.html", tmp_path / "t.md")
    assert outputs.write([sheet], Settings(), "ragpool eval x") == [
        tmp_path / "e.json",
        tmp_path / "r.html",
        tmp_path / "t.md",
    ]
    assert json.loads((tmp_path / "e.json").read_text())["dataset"] == "world<1>"
    assert Outputs().write([sheet], Settings(), "") == []


def test_the_command_that_makes_it_again() -> None:
    line = command_line([Path("my file.json")], methods="all", limit=None, set=["retrieve.k=5", "effort=low"])
    assert line == "ragpool eval 'my file.json' --methods all --set retrieve.k=5 --set effort=low"


def test_numbers_as_they_are_written() -> None:
    assert [share(value) for value in (0.8754, 1.0, 0.0, float("nan"))] == [".875", "1.000", ".000", "-"]
    assert gain(Gain(0.25, -0.5, 1.0)) == "+.250 [-.500, +1.000]"
    assert gain(Gain(-10.4, -20.5, 10.0), 0) == "-10 [-20, +10]"
    assert gain(None) == gain(Gain(float("nan"), 0, 0)) == "-"


names = st.sampled_from(ORDER)
shares = st.floats(0, 1)


class TestPlots:
    @given(st.dictionaries(names, st.lists(shares, max_size=5)))
    def test_rounds(self, series: dict[str, list[float]]) -> None:
        assert inside(rounds_plot(series, ORDER)) == {name for name, values in series.items() if values}

    @given(st.dictionaries(names, st.lists(st.builds(Bin, shares, shares, st.integers(1, 99)), max_size=4)))
    def test_reliability(self, series: dict[str, list[Bin]]) -> None:
        assert inside(reliability_plot(series, ORDER)) == {name for name, bins in series.items() if bins}

    @given(st.dictionaries(names, st.builds(Point, st.floats(0, 1e6), shares, shares, shares)))
    def test_costs(self, series: dict[str, Point]) -> None:
        for name, point in series.items():
            low, middle, high = sorted((point.low, point.f1, point.high))
            series[name] = Point(point.tokens, middle, low, high)
        assert inside(cost_plot(series, ORDER)) == set(series)


def inside(svg: str) -> set[str]:
    """The series that are labelled. The text is XML, and every label and mark lies in the picture, labels apart."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    labels = [e for e in root.iter("text") if "label" in e.attrib["class"]]
    places = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in labels]
    for mark in (e for e in root.iter("path") if "mark" in e.attrib["class"]):
        x, y = map(float, re.findall(r"translate\((\S+) (\S+)\)", mark.attrib["transform"])[0])
        places.append((x, y))
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    spots = sorted((round(y), round(x)) for x, y in places[: len(labels)])
    assert len(set(spots)) == len(spots)
    return {e.text or "" for e in labels}
