"""What Turntrace holds in memory: in the web process against the bare application, in the worker, and as time passes.

The same application under the same load, without Turntrace, with it, and with its texts redacted; one variant after the
other, alternating over the rounds. `python -m benchmarks.memory --seconds 60 --rounds 3`.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import medians, publish
from tests.acceptance.faults.load import KEEP_ALIVE, load_of
from tests.acceptance.faults.soak import Look, slope_mb_per_hour, watch
from tests.acceptance.servers import Server, environment, turntrace, uvicorn

APP = "tests.acceptance.faults.soak_app:app"
BARE = "bare"
# Settings of each variant.
VARIANTS: dict[str, dict[str, str]] = {
    BARE: {},
    "turntrace-off": {"redaction": "off"},
    "turntrace-patterns": {"redaction": "patterns"},
}
WARM_UP_SECONDS = 10.0
LOOKS = 10
Figures = dict[str, float]


def processes(server: Server) -> dict[str, psutil.Process]:
    """The server, its worker and the worker's redaction process, by what they are."""
    web = psutil.Process(server.process.pid)
    found = {"web": web}
    for child in web.children(recursive=True):
        try:
            words = " ".join(child.cmdline())
        except psutil.Error:  # gone meanwhile
            continue
        if "turntrace.cli" in words:
            found["worker"] = child
        elif "presidio" in words:
            found["redaction"] = child
    return found


def measure(name: str, seconds: float, rate: float) -> Figures:
    """The figures of one variant, from a server of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        env = environment(home, f"sqlite:///{home / 'turntrace.db'}", **VARIANTS[name])
        if name == BARE:
            env["SOAK_BARE"] = "1"
        else:
            turntrace(env, "db", "upgrade")
        with uvicorn(APP, env, home / "log", options=KEEP_ALIVE) as server:
            (idle,) = watch(lambda: processes(server), seconds=1, looks=1)["web"]
            # The bare application's answers carry no trace id: the load counts them as failed, which is nothing to us.
            with load_of(int(server.url.rpartition(":")[2]), rate=rate):
                watch(lambda: processes(server), seconds=WARM_UP_SECONDS, looks=1)
                found = watch(lambda: processes(server), seconds=seconds, looks=LOOKS)
    return {"idle MB": idle.memory_mb, "web MB/h": slope_mb_per_hour(found["web"]), **_last(found)}


def _last(found: dict[str, list[Look]]) -> Figures:
    return {
        f"{name} MB": found[name][-1].memory_mb if name in found else 0.0 for name in ("web", "worker", "redaction")
    }


def run(variants: tuple[str, ...], rounds: int, seconds: float, rate: float) -> list[dict[str, Any]]:
    """Alternate the variants; one row each, with what is added to the bare application."""
    found: dict[str, list[Figures]] = {name: [] for name in variants}
    for number in range(rounds):
        for name in variants if number % 2 == 0 else variants[::-1]:
            found[name].append(measure(name, seconds, rate))
    figures = {name: medians(rounds) for name, rounds in found.items()}
    bare = figures[BARE]
    return [
        {
            "variant": name,
            **own,
            "added idle MB": own["idle MB"] - bare["idle MB"],
            "added web MB": own["web MB"] - bare["web MB"],
        }
        for name, own in figures.items()
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="under load, after the warm-up")
    parser.add_argument("--rate", type=float, default=100.0, help="turns a second")
    parser.add_argument("--out", type=Path, help="directory for JSON and Markdown")
    arguments = parser.parse_args()
    publish("memory", run(tuple(VARIANTS), arguments.rounds, arguments.seconds, arguments.rate), arguments.out)


if __name__ == "__main__":
    main()
