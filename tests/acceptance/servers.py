"""Real servers for acceptance tests: the example app under uvicorn or gunicorn, with the offline model beside it."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
T = TypeVar("T")


def wait_until(probe: Callable[[], T], *, seconds: float, what: str) -> T:
    """Poll until the probe answers something true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last answer {found!r}")
        time.sleep(0.05)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server process with its own session, so that all its workers can be signalled."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    env: dict[str, str]

    def stop(self, how: int = signal.SIGTERM, seconds: float = 15) -> float:
        """Signal the master, wait for its end and answer how long that took (s)."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        return time.monotonic() - started


@contextmanager
def serve(
    command: list[str],
    env: dict[str, str],
    url: str,
    log: Path,
    *,
    path: str = "/health",
    start_seconds: float = START_SECONDS,
) -> Iterator[Server]:
    """Run a server until the block ends; ready when `path` answers."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    server = Server(process, url, log, env)
    try:
        wait_until(lambda: _answers(server, path), seconds=start_seconds, what=f"{command} answers; see {log}")
        yield server
    finally:
        server.stop()


def _answers(server: Server, path: str) -> bool:
    if server.process.poll() is not None:
        raise AssertionError(f"the server ended at once:\n{server.log.read_text()[-3000:]}")
    try:
        return httpx.get(server.url + path, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False


def environment(home: Path, database_url: str, **settings: str) -> dict[str, str]:
    """The environment of a server under test: own spool, own key, nothing of ours inherited."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TURNTRACE_")}
    own = {
        "TURNTRACE_DATABASE_URL": database_url,
        "TURNTRACE_SPOOL_DIR": str(home / "spool"),
        "TURNTRACE_SECRET_KEY": secrets.token_hex(32),
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
    }
    return {**kept, **own, **{f"TURNTRACE_{key.upper()}": value for key, value in settings.items()}}


@contextmanager
def offline_model(log: Path, **options: str) -> Iterator[str]:
    """The offline model server; answers its base URL for OpenAI clients."""
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    command = [sys.executable, "-m", "uvicorn", "example_app.offline_model:app", "--port", str(port)]
    with serve([*command, "--log-level", "warning"], env, f"http://127.0.0.1:{port}", log, path="/v1/models"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def uvicorn(
    target: str, env: dict[str, str], log: Path, *, workers: int = 1, options: tuple[str, ...] = ()
) -> Iterator[Server]:
    """An ASGI app under uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--workers", str(workers)]
    with serve([*command, "--log-level", "warning", *options], env, f"http://127.0.0.1:{port}", log) as server:
        yield server


@contextmanager
def gunicorn(
    target: str, env: dict[str, str], log: Path, *, workers: int = 4, options: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A WSGI app under gunicorn with `--preload` and threads."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", str(workers), "--threads", "10"]
    command += ["-b", f"127.0.0.1:{port}", "--log-level", "warning", *options, target]
    with serve(command, env, f"http://127.0.0.1:{port}", log) as server:
        yield server


def turntrace(env: dict[str, str], *arguments: str, stdin: str | None = None) -> str:
    """Run the command line and answer what it printed; fails when it fails."""
    command = [sys.executable, "-m", "turntrace.cli", *arguments]
    done = subprocess.run(command, env=env, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def api_key(env: dict[str, str], *scopes: str) -> str:
    """A new API key with these scopes."""
    flags = [flag for scope in scopes for flag in ("--scope", scope)]
    return str(json.loads(turntrace(env, "keys", "create", "--name", "test", *flags, "--json"))["key"])


class Api:
    """The REST API of a server under test."""

    def __init__(self, server_url: str, key: str, mount: str = "/llm-admin") -> None:
        self._client = httpx.Client(
            base_url=f"{server_url}{mount}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that succeeds."""
        response = self._client.get(path, params=query)
        assert response.status_code == 200, f"GET {path}: {response.status_code} {response.text[:500]}"
        return response.json()

    def status(self, path: str, **query: Any) -> int:
        """The status of a GET."""
        return self._client.get(path, params=query).status_code

    def loss(self) -> dict[str, Any]:
        """The loss balance."""
        found: dict[str, Any] = self.get("/loss")
        return found


def is_balanced(loss: dict[str, Any]) -> bool:
    """Whether accepted = stored + sampled + erased + dropped + in_spool."""
    gone = loss["stored"] + loss["sampled"] + loss["erased"] + sum(loss["dropped"].values()) + loss["in_spool"]
    return bool(loss["accepted"] == gone)
