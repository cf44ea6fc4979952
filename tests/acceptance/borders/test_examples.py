"""The examples of the documents, run as they stand: whatever they cross, it is one trace and one session."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.servers import ROOT, environment, free_port, wait_until
from tests.conftest import _listens

# By example: the session it speaks of, the lines that tell where, and how many traces those are of.
EXAMPLES = {
    "http_clients": ("s-7", 4, 1),
    "threads_and_tasks": ("s-8", 8, 1),
    "celery_task": ("s-9", 2, 1),
    "rq_job": ("s-10", 2, 1),
    "mcp_tool": ("s-11", 2, 1),
    "websocket": ("s-12", 4, 2),
    "server_sent_events": ("s-13", 3, 1),
}
_TRACE_ID = re.compile(r"\b[0-9a-f]{32}\b")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Redis that runs here, or one of our own."""
    if _listens(6379):
        yield "redis://127.0.0.1:6379/0"
        return
    command, port = shutil.which("redis-server"), free_port()
    if command is None:
        pytest.skip("no Redis on 127.0.0.1:6379 and no redis-server to start one")
    folder = tmp_path_factory.mktemp("redis")
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([command, *arguments], stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _listens(port), seconds=60, what="Redis answers")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def test_every_example_is_run() -> None:
    assert {path.stem for path in (ROOT / "docs" / "examples").glob("*.py")} == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_stays_in_its_trace_and_session(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    session, lines, traces = EXAMPLES[name]
    env = environment(tmp_path, f"sqlite:///{tmp_path / 'turntrace.db'}", worker="external")
    if name == "rq_job":
        env["REDIS_URL"] = request.getfixturevalue("redis_url")
    command = [sys.executable, str(ROOT / "docs" / "examples" / f"{name}.py")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [line for line in done.stdout.splitlines() if _TRACE_ID.search(line)]
    assert len(told) == lines, done.stdout + done.stderr
    assert len({found for line in told for found in _TRACE_ID.findall(line)}) == traces
    carried = [line for line in told if "session.id=" in line]
    assert carried
    assert all(f"session.id={session},user.id=" in line for line in carried)
