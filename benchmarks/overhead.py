"""What a turn costs the application, with and without Turntrace, and with other tools where they are installed.

One variant a process, in alternating rounds; figures are medians of the rounds, to be read as ratios of one run.
`python -m benchmarks.overhead --rounds 5` measures in-process ASGI calls; `--setting` names others: `flask` (in-process
WSGI), `uvicorn-0` and `uvicorn-20` (a server under load, its model answering at once or in 20 ms), or `all`.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import inprocess, serving
from benchmarks.report import medians, publish
from benchmarks.sink import sink
from benchmarks.variants import BARE, OTEL, build, names
from benchmarks.workload import asgi_application, wsgi_application

SETTINGS = ("asgi", "flask", "uvicorn-0", "uvicorn-20")
Figures = dict[str, float]


def child(setting: str, name: str, turns: int, sink_port: int, pause_us: int) -> None:
    """Measure one variant in this process and print its figures as JSON; or serve it, under `uvicorn-…`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        variant = build(name, Path(home), sink_port)
        if setting.startswith("uvicorn"):
            seconds = int(setting.removeprefix("uvicorn-")) / 1000
            serving.serve(variant.asgi(asgi_application(variant.turn, seconds)))
        else:
            is_asgi = setting == "asgi"
            make, wrap = (asgi_application, variant.asgi) if is_asgi else (wsgi_application, variant.wsgi)
            call = inprocess.call_asgi if is_asgi else inprocess.call_wsgi
            figures = asyncio.run(inprocess.measure(call, wrap(make(variant.turn)), turns, pause_us))
            print(json.dumps(figures), flush=True)
        variant.close()


def measure(setting: str, name: str, turns: int, sink_port: int, pause_us: int) -> Figures:
    """The figures of one variant, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--child", name, "--setting", setting]
    command += ["--turns", str(turns), "--sink", str(sink_port), "--pause-us", str(pause_us)]
    if setting.startswith("uvicorn"):
        return serving.measure(command, turns)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


def run(setting: str, variants: tuple[str, ...], rounds: int, turns: int, pause_us: int) -> list[dict[str, Any]]:
    """Alternate the variants and answer one row each, with ratios to the bare application and to OpenTelemetry."""
    found: dict[str, list[Figures]] = {name: [] for name in variants}
    with sink() as port:
        for number in range(rounds):
            for name in variants if number % 2 == 0 else variants[::-1]:
                found[name].append(measure(setting, name, turns, port, pause_us))
    figures = {name: medians(rounds) for name, rounds in found.items()}
    row = _served if setting.startswith("uvicorn") else _called
    return [row(name, figures[name], figures[BARE], figures.get(OTEL)) for name in variants]


def _called(name: str, own: Figures, bare: Figures, otel: Figures | None) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": name, "p50 us": own["p50 us"], "added p50 us": own["p50 us"] - bare["p50 us"]}
    row |= {"p99 us": own["p99 us"], "added p99 us": own["p99 us"] - bare["p99 us"]}
    row |= {"added cpu s/1000": own["cpu s/1000"] - bare["cpu s/1000"]}
    row |= {"added p50 / otel": _ratio("p50 us", own, bare, otel)}
    row |= {"added cpu / otel": _ratio("cpu s/1000", own, bare, otel), "added rss MB": own["rss MB"] - bare["rss MB"]}
    return row


def _served(name: str, own: Figures, bare: Figures, otel: Figures | None) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": name, "requests/s": own["requests/s"]}
    row |= {"ratio to bare": own["requests/s"] / bare["requests/s"]}
    row |= {
        "p50 ms": own["p50 ms"],
        "p99 ms": own["p99 ms"],
        "added cpu s/1000": own["cpu s/1000"] - bare["cpu s/1000"],
    }
    row |= {"added cpu / otel": _ratio("cpu s/1000", own, bare, otel)}
    return row


def _ratio(figure: str, own: Figures, bare: Figures, otel: Figures | None) -> float | None:
    """What a variant adds to a figure, in what plain OpenTelemetry adds to it."""
    return (own[figure] - bare[figure]) / (otel[figure] - bare[figure]) if otel else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=(*SETTINGS, "all"), default="asgi")
    parser.add_argument("--variants", help=f"comma-separated; here: {','.join(names())}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--pause-us", type=int, default=1000, help="between two in-process calls")
    parser.add_argument("--out", type=Path, help="directory for JSON and Markdown")
    parser.add_argument("--child", choices=names(), help=argparse.SUPPRESS)
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.setting, arguments.child, arguments.turns, arguments.sink, arguments.pause_us)
        return
    variants = tuple(arguments.variants.split(",")) if arguments.variants else names()
    variants = (BARE, *(name for name in variants if name != BARE))
    for setting in SETTINGS if arguments.setting == "all" else (arguments.setting,):
        rows = run(setting, variants, arguments.rounds, arguments.turns, arguments.pause_us)
        publish(f"overhead-{setting}", rows, arguments.out)


if __name__ == "__main__":
    main()
