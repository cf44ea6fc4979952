"""What recording costs and suffers on this host right now: read from the capturing processes' own counters."""

from dataclasses import dataclass
from pathlib import Path

from turntrace.spool.counters import CPU, PAUSED_UNTIL, Counters, balance
from turntrace.spool.home import counter_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Sums over the capturing processes whose directories are on this host.

    `overhead_us` is our own time on the request path of `turns` requests, `cpu_us` the CPU time of those processes
    altogether, `in_memory` turns that wait there because the spool cannot be written to, `paused_until_us` (Unix time)
    the latest end of a pause that many faults of ours have caused.
    """

    processes: int = 0
    turns: int = 0
    overhead_us: int = 0
    bytes_written: int = 0
    cpu_us: int = 0
    in_memory: int = 0
    paused_until_us: int = 0


def read_vitals(root: Path) -> Vitals:
    """The vitals of the application that spools below `root`; nothing is opened for writing, no lock is taken."""
    found = [values for path in counter_files(root) if (values := Counters.read(path))]
    names = ("turns", "overhead_us", "bytes_written")
    # Overhead counts from the first turn, CPU time is noted now and then: both of the same processes only.
    measured = [values for values in found if values.get(CPU)]
    return Vitals(
        processes=len(found),
        **{name: sum(values.get(name, 0) for values in measured) for name in names},
        cpu_us=sum(values[CPU] for values in measured),
        in_memory=sum(max(0, balance(values)[2]) for values in found),
        paused_until_us=max((values.get(PAUSED_UNTIL, 0) for values in found), default=0),
    )
