"""ragpool as it is installed: a wheel, far from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("ragpool", "flows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = {**os.environ, "PIP_NO_INDEX": "1"}
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--target", str(place), str(source)],
        env=offline,
        check=True,
    )
    return place


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


def test_everything_is_in_the_wheel(installed: Path) -> None:
    assert files(installed / "ragpool") == files(ROOT / "ragpool") | {
        f"flows/{name}" for name in files(ROOT / "flows")
    }
    assert not (installed / "flows").exists()


def test_the_flows_load_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    code = "import ragpool.cli.app, ragpool.flows.answer_flow, ragpool.flows.serve as s; print(s.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)
