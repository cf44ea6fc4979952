"""`make demo`: the offline model and the bot on SQLite, real conversations through it, and the panel's address."""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from example_app.drive import drive, summary
from example_app.evaluators import install, make_table

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60


def free_port(preferred: int) -> int:
    """The preferred port when it is free, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def environment(home: Path, model_url: str, user: str, password: str) -> dict[str, str]:
    """The environment of the demo's servers: own database, own spool, offline unless the user says otherwise."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TURNTRACE_")}
    return {
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "offline",
        **kept,
        "PYTHONPATH": path,
        "TURNTRACE_DATABASE_URL": f"sqlite:///{home / 'turntrace.db'}",
        "TURNTRACE_SPOOL_DIR": str(home / "spool"),
        "TURNTRACE_SECRET_KEY": secrets.token_hex(32),
        "TURNTRACE_PANEL_USER": user,
        "TURNTRACE_PANEL_PASSWORD": password,
        "TURNTRACE_ENVIRONMENT": "demo",
        "TURNTRACE_SERVICE_NAME": "support-bot",
        "TURNTRACE_RELEASE": "demo-1",
        "TURNTRACE_JUDGE_ALLOWED_HOSTS": "127.0.0.1",
        "TURNTRACE_EVALUATOR_FUNCTIONS": "example_app.evaluators:hallucinated",
        "TURNTRACE_EVALUATOR_DATABASE_URL": f"sqlite:///{home / 'answers.db'}",
    }


@contextmanager
def server(target: str, port: int, env: dict[str, str], log: Path) -> Iterator[None]:
    """A uvicorn process for as long as the block runs."""
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port), "--log-level", "warning"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        _wait_for_port(port, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a demo server ended at once; its log: {log}\n{log.read_text()[-2000:]}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"a demo server did not answer within {START_SECONDS} s; its log: {log}")


def fresh_home(path: Path) -> Path:
    """An empty directory for the demo's database and spool."""
    if (path / "turntrace.db").exists() or (path / "spool").exists():
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def main(argv: list[str] | None = None) -> None:
    """Run the demo in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="turntrace demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--turns", type=int, default=240)
    parser.add_argument("--home", type=Path, default=Path(".demo"))
    parser.add_argument("--exit", action="store_true", help="end when all turns are done")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _leave)  # as Ctrl-C does: the servers go with us
    home = fresh_home(arguments.home.absolute())
    port, model_port = free_port(arguments.port), free_port(8090)
    user, password = "demo", secrets.token_urlsafe(12)
    make_table(home / "answers.db")
    env = environment(home, f"http://127.0.0.1:{model_port}/v1", user, password)
    base_url = f"http://127.0.0.1:{port}"
    with (
        server("example_app.offline_model:app", model_port, env, home / "model.log"),
        server("example_app.fastapi_app:app", port, env, home / "app.log"),
    ):
        httpx.get(f"{base_url}/llm-admin/login", timeout=30).raise_for_status()
        install(f"{base_url}/llm-admin", new_key(env), f"http://127.0.0.1:{model_port}/v1")
        print(f"panel: {base_url}/llm-admin/\nuser: {user}\npassword: {password}", flush=True)
        print(summary(drive(base_url, arguments.turns)), flush=True)
        if not arguments.exit:
            _stay()


def new_key(env: dict[str, str]) -> str:
    """A key of the REST API that may read and write, made on the command line."""
    command = [sys.executable, "-m", "turntrace.cli", "keys", "create", "--name", "demo", "--json"]
    made = subprocess.run([*command, "--scope", "read", "--scope", "write"], env=env, capture_output=True, check=True)
    return str(json.loads(made.stdout)["key"])


def _leave(*_: object) -> None:
    raise SystemExit(143)


def _stay() -> None:
    print("The demo keeps running; Ctrl-C ends it.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nended")


if __name__ == "__main__":
    main()
