"""Steady load for a long time: memory, files and threads stay as they are, and every turn is accounted for.

Short form: 25 s, which tells leaks of whole objects per turn and no slow ones: 1 MB an hour cannot be told from noise
in less than about ten minutes. `TURNTRACE_TEST_LONG=1`: an hour, with the limit of 1 MB an hour;
`TURNTRACE_TEST_SOAK_SECONDS` names another length.
"""

import os
from pathlib import Path

import psutil
import pytest

from tests.acceptance.faults.load import KEEP_ALIVE, load_of
from tests.acceptance.faults.soak import Look, slope_mb_per_hour, spool_bytes, watch
from tests.acceptance.servers import Api, Server, api_key, environment, is_balanced, turntrace, uvicorn, wait_until

IS_LONG = bool(os.environ.get("TURNTRACE_TEST_LONG"))
SECONDS = float(os.environ.get("TURNTRACE_TEST_SOAK_SECONDS", "3600" if IS_LONG else "15"))
WARM_UP_SECONDS = 600.0 if SECONDS >= 3600 else 60.0 if SECONDS >= 300 else 10.0
RATE = 100.0
LOOKS = 60 if IS_LONG else 10
# From ten minutes on the slope itself is judged; before that, what was gained in all, far above noise.
SLOPE_MB_PER_HOUR = 1.0
GAINED_MB = 8.0
APP = "tests.acceptance.faults.soak_app:app"

pytestmark = [pytest.mark.alone, pytest.mark.timeout(SECONDS + WARM_UP_SECONDS + 300)]


def processes(server: Server) -> dict[str, psutil.Process]:
    """The web process, and the worker that it has started, by name."""
    web = psutil.Process(server.process.pid)
    found = {"web": web}
    for child in web.children():
        if "turntrace.cli" in child.cmdline():
            found["worker"] = child
    return found


def assert_flat(name: str, looks: list[Look]) -> None:
    """Nothing grows with the number of turns."""
    first, last = looks[: len(looks) // 2], looks[len(looks) // 2 :]
    slope = slope_mb_per_hour(looks)
    gained = min(look.memory_mb for look in last) - min(look.memory_mb for look in first)
    print(
        f"  {name}: {looks[0].memory_mb:.1f} to {looks[-1].memory_mb:.1f} MB, {slope:+.2f} MB/h, gained {gained:+.2f}"
    )
    assert min(look.files for look in last) <= max(look.files for look in first), "files are left open"
    assert min(look.threads for look in last) <= max(look.threads for look in first), "threads are left running"
    if SECONDS >= 600:
        assert slope < SLOPE_MB_PER_HOUR
    assert gained < GAINED_MB


def test_a_steady_load_leaves_nothing_behind(tmp_path: Path) -> None:
    env = environment(tmp_path, f"sqlite:///{tmp_path / 'turntrace.db'}", redaction="off")
    turntrace(env, "db", "upgrade")
    with uvicorn(APP, env, tmp_path / "log", options=KEEP_ALIVE) as server:
        port = int(server.url.rpartition(":")[2])
        with Api(server.url, api_key(env, "read")) as api:
            api.loss()  # panel and API are put together: their memory is not that of the turns
            with load_of(port, rate=RATE) as load:
                watch(lambda: processes(server), seconds=WARM_UP_SECONDS, looks=1)
                found = watch(lambda: processes(server), seconds=SECONDS, looks=LOOKS)
                held = spool_bytes(tmp_path / "spool")
            loss = wait_until(
                lambda: at_rest if is_balanced(at_rest := api.loss()) and at_rest["in_spool"] == 0 else None,
                seconds=60,
                what="a balance at rest",
            )
    print(f"\n{len(load.acknowledged)} turns in {WARM_UP_SECONDS + SECONDS:.0f} s; {held / 1e6:.1f} MB in the spool")
    assert load.failed == []
    assert loss["accepted"] == loss["stored"] == len(load.acknowledged)
    assert not loss["dropped"]
    assert set(found) == {"web", "worker"}
    for name, looks in found.items():
        assert_flat(name, looks)
    assert held < 64 << 20, "segments that are stored are removed"
