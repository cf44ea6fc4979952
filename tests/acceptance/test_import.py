"""What importing Turntrace costs the host."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("spacy", "sqladmin", "presidio_analyzer", "sqlalchemy", "starlette", "opentelemetry.sdk")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TURNTRACE_")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout


@pytest.mark.alone
def test_a_cold_import_takes_at_most_150_ms() -> None:
    code = "import time; t = time.perf_counter(); import turntrace; print(time.perf_counter() - t)"
    python(code)
    assert statistics.median(float(python(code)) for _ in range(10)) <= 0.150


def test_importing_the_middleware_loads_nothing_heavy() -> None:
    code = (
        "import sys; from turntrace import Turntrace, TurntraceMiddleware, TurntraceWSGIMiddleware, observe; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_a_command_that_reads_the_database_loads_no_object_mapper(tmp_path: Path) -> None:
    # Its import and its classes of our tables would cost each process that opens the database a third of a second.
    url = f"sqlite:///{tmp_path / 'turntrace.db'}"
    python(f"from turntrace.cli import main; main(['db', 'upgrade', '--database-url', {url!r}])")
    code = (
        f"import sys; from turntrace.cli import main; main(['users', 'list', '--database-url', {url!r}]); "
        "print([name for name in ('sqlalchemy.orm', 'pydantic') if name in sys.modules])"
    )
    assert python(code).splitlines()[-1] == "[]"
