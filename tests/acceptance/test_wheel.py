"""The wheel holds all that runs: migrations, templates, static files, the example; and works away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.servers import ROOT

PARTS = (
    "turntrace/py.typed",
    "turntrace/migrations/env.py",
    "turntrace/migrations/script.py.mako",
    "turntrace/migrations/versions/0001_first_schema.py",
    "turntrace/panel/templates/trace.html",
    "turntrace/panel/static/panel.css",
    "turntrace/demo/example_app/demo.py",
    "turntrace/demo/example_app/knowledge/halueval_qa.jsonl",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout."""
    home = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(home), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    return next(home.glob("*.whl"))


def test_the_wheel_holds_all_that_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [part for part in PARTS if part not in names] == []
    assert [name for name in names if "__pycache__" in name or name.endswith(".db")] == []


def test_the_command_line_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    # Before everything else on the path, so that it is the wheel's package and its migrations that run.
    env = {"PYTHONPATH": str(tmp_path / "site"), "TURNTRACE_DATABASE_URL": f"sqlite:///{tmp_path / 'turntrace.db'}"}
    code = "import turntrace.cli, sys; assert 'site' in turntrace.cli.__file__; sys.exit(turntrace.cli.main())"
    for words in (["db", "upgrade"], ["db", "check"], ["jobs", "list"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
