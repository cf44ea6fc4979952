"""The command line as a person or a script uses it: one clear line on failure, JSON where a script may read it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.servers import ROOT, environment, turntrace
from turntrace import cli_money
from turntrace.jobs import report


def run(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "turntrace.cli", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, f"sqlite:///{tmp_path / 'turntrace.db'}")


def test_periods_of_reports_are_those_that_are_made() -> None:
    assert report.EVERY == cli_money._EVERY


def test_a_short_command_loads_no_worker(env: dict[str, str]) -> None:
    turntrace(env, "db", "upgrade")
    command = [sys.executable, "-X", "importtime", "-m", "turntrace.cli", "users", "list"]
    loaded = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stderr
    assert "turntrace.storage.people" in loaded
    assert "turntrace.assembly" not in loaded
    assert "apscheduler" not in loaded


def test_tables_go_up_and_down(env: dict[str, str]) -> None:
    assert json.loads(turntrace(env, "db", "upgrade", "--json"))["revision"]
    assert json.loads(turntrace(env, "db", "check", "--json")) == {"is_current": True}
    turntrace(env, "db", "downgrade", "base")
    failed = run(env, "db", "check")
    assert failed.returncode == 1
    assert "turntrace db upgrade" in failed.stderr
    assert "CREATE TABLE turntrace_trace" in turntrace(env, "db", "sql")
    assert "CREATE TABLE turntrace_trace" in json.loads(turntrace(env, "db", "sql", "--json"))["sql"]


def test_keys_are_made_listed_and_revoked(env: dict[str, str]) -> None:
    turntrace(env, "db", "upgrade")
    made = json.loads(turntrace(env, "keys", "create", "--name", "ci", "--scope", "read", "--scope", "write", "--json"))
    assert set(made) == {"id", "key", "scopes"}
    assert made["scopes"] == ["read", "write"]
    turntrace(env, "keys", "revoke", made["id"])
    listed = turntrace(env, "keys", "list")
    assert made["id"] in listed
    assert "revoked" in listed
    assert made["key"] not in listed


def test_a_receipt_is_an_object(env: dict[str, str], tmp_path: Path) -> None:
    turntrace(env, "db", "upgrade")
    (tmp_path / "list.json").write_text("[1]")
    failed = run(env, "erase", "--verify", str(tmp_path / "list.json"))
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False)
    assert "holds no receipt" in failed.stderr


def test_a_password_that_nobody_can_be_asked_for_is_one_clear_line(env: dict[str, str]) -> None:
    turntrace(env, "db", "upgrade")
    command = [sys.executable, "-m", "turntrace.cli", "users", "create", "ada", "--role", "admin"]
    failed = subprocess.run(  # in a session of its own: no terminal to ask at
        command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    assert failed.returncode == 1
    assert "--password-stdin" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_users_are_made_listed_and_disabled(env: dict[str, str]) -> None:
    turntrace(env, "db", "upgrade")
    turntrace(env, "users", "create", "ada", "--role", "admin", "--password-stdin", stdin="a long enough one\n")
    assert json.loads(turntrace(env, "users", "list", "--json")) == [
        {"name": "ada", "role": "admin", "is_disabled": False}
    ]
    turntrace(env, "users", "disable", "ada")
    assert "disabled" in turntrace(env, "users", "list")


def test_jobs_are_listed_and_run(env: dict[str, str]) -> None:
    turntrace(env, "db", "upgrade")
    assert "compact" in turntrace(env, "jobs", "list")
    assert json.loads(turntrace(env, "jobs", "run", "compact", "--json"))["deltas"] == 0


@pytest.mark.parametrize(
    ("arguments", "changed", "said"),
    [
        (("db", "check"), {"TURNTRACE_WORKR": "thread"}, "TURNTRACE_WORKR: there is no such setting"),
        (("db", "check"), {"TURNTRACE_WORKER": "sideways"}, "process, thread, external"),
        (
            ("db", "check"),
            {"TURNTRACE_DATABASE_URL": "postgresql+psycopg://me:canary@127.0.0.1:1/x"},
            "cannot be reached",
        ),
        (("db", "check"), {"TURNTRACE_DATABASE_URL": "oracle://x"}, "oracle"),
        (("db", "check"), {"TURNTRACE_DATABASE_URL": "nonsense"}, "URL"),
        (("jobs", "run", "nothing"), {}, "compact"),
        (("users", "disable", "nobody"), {}, "nobody"),
        (("keys", "revoke", "nothing"), {}, "nothing"),
        (("db", "upgrade", "nonsense"), {}, "nonsense"),
        (("db", "downgrade", "9999"), {}, "9999"),
        (("db", "sql", "nonsense"), {}, "nonsense"),
        (("erase", "--verify", "/nowhere/receipt.json"), {}, "/nowhere/receipt.json: No such file"),
        (("erase", "--verify", sys.executable), {}, "holds no receipt"),
        (("report", "--html", "/nowhere/report.html"), {}, "/nowhere/report.html: No such file"),
        (("reprice", "--from", "2026-01-01", "--to", "9999-12-31"), {}, "no day after 9999-12-31"),
        (("rollups", "check", "--to", "9999-12-31"), {}, "no day after 9999-12-31"),
    ],
)
def test_a_failure_is_one_clear_line(
    env: dict[str, str], arguments: tuple[str, ...], changed: dict[str, str], said: str
) -> None:
    if not changed:
        turntrace(env, "db", "upgrade")
    failed = run(env | changed, *arguments)
    assert failed.returncode == 1
    assert len(failed.stderr.strip().splitlines()) == 1
    assert said in failed.stderr
    assert "canary" not in failed.stderr
    assert "Traceback" not in failed.stderr


def test_doctor_names_what_is_wrong(env: dict[str, str]) -> None:
    failed = run(env, "doctor", "--json")
    levels = {finding["level"] for finding in json.loads(failed.stdout)}
    assert failed.returncode == 1
    assert "error" in levels
    turntrace(env, "db", "upgrade")
    assert run(env, "doctor").returncode == 0
