"""What importing Turntrace costs the host."""

import os
import statistics
import subprocess
import sys

import pytest

HEAVY = ("spacy", "sqladmin", "presidio_analyzer", "sqlmodel", "sqlalchemy", "starlette", "opentelemetry.sdk")


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
