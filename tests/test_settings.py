from __future__ import annotations

from pathlib import Path

import pytest

from ragpool.errors import SettingsError
from ragpool.kvcache import METHOD_NAMES
from ragpool.settings import EFFORTS, Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_typo_fails_with_the_name_of_the_field() -> None:
    with pytest.raises(SettingsError, match=r"retrieve\.kk"):
        Settings.load(retrieve={"kk": 3})


def test_bounds_are_checked() -> None:
    with pytest.raises(SettingsError, match=r"retrieve\.k"):
        Settings.load(retrieve={"k": 0})


def test_the_later_source_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ragpool.toml").write_text('effort = "low"\n[retrieve]\nk = 4\ngap_k = 2\n')
    monkeypatch.setenv("RAGPOOL_RETRIEVE__K", "5")
    loaded = Settings.load(retrieve={"rrf_k": 30})
    assert (loaded.effort, loaded.retrieve.k, loaded.retrieve.gap_k, loaded.retrieve.rrf_k) == (
        "low",
        5,
        2,
        30,
    )


def test_a_typo_in_the_file_and_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGPOOL_RETRIEVE__KAY", "5")
    with pytest.raises(SettingsError, match="kay"):
        Settings.load()
    monkeypatch.delenv("RAGPOOL_RETRIEVE__KAY")
    (tmp_path / "other.toml").write_text("efort = 1\n")
    with pytest.raises(SettingsError, match="efort"):
        Settings.load(tmp_path / "other.toml")


@pytest.mark.parametrize("unknown", [{"planner": {"kind": "prompted"}}, {"generator": {"max_new_tokens": 9}}])
def test_what_would_change_nothing_is_refused(unknown: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"planner\.kind.*'rules'|generator\.max_new_tokens"):
        Settings.load(**unknown)


def test_a_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file"):
        Settings.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("effort = \n")
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        Settings.load(tmp_path / "broken.toml")


def test_effort_is_the_dial_and_limits_lie_over_it() -> None:
    assert Settings.load(effort="high").preset == EFFORTS["high"]
    assert Settings.load(effort="high", limits={"max_rounds": 2}).preset.max_rounds == 2
    assert Settings.load(judge={"threshold": 0.9}).preset.threshold == 0.9


def test_the_hash_changes_with_answers_not_with_machines_or_secrets() -> None:
    base = Settings.load().config_hash()
    same = Settings.load(
        models={"threads": 1, "device": "cpu", "api_key": "s"}, database_url="sqlite:///x.db"
    )
    assert same.config_hash() == base
    for other in (
        {"effort": "high"},
        {"retrieve": {"k": 3}},
        {"models": {"temperature": 0.5}},
        {"method": "single"},
    ):
        assert Settings.load(**other).config_hash() != base


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(Settings.load(models={"api_key": "hunter2"}))


def test_kv_methods_are_those_that_there_are() -> None:
    for method in ("off", "auto", *METHOD_NAMES):
        assert Settings.load(generator={"kv": {"method": method}}).generator.kv.method == method


@pytest.mark.parametrize(
    ("kv", "named"),
    [
        ({"method": "crtic"}, r"generator\.kv\.method"),
        ({"method": "snapkv", "ratio": 1}, r"generator\.kv\.ratio"),
        ({"method": "snapkv", "ratio": 0.5, "tokens": 300}, r"generator\.kv: .*ratio or tokens"),
        ({"methode": "snapkv"}, r"generator\.kv\.methode"),
    ],
)
def test_a_wrong_kv_setting_is_one_line(kv: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        Settings.load(generator={"kv": kv})
    assert "\n" not in str(caught.value)
