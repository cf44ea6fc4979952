"""What does not work as it should at the moment: what it means, and what to do. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from turntrace.panel.wording import ago, count, percent, size
from turntrace.records.loss import Loss

SILENT_US: Final = 30_000_000  # a worker that has said nothing for so long is not well
RECENT_US: Final = 60_000_000
FULL_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """One thing that does not work: `what` it is, what it `means` for turns and host, what to `do`."""

    what: str
    means: str
    do: str


def degraded(status: Mapping[str, Any], loss: Loss, *, now_us: int) -> list[Degraded]:
    """Everything that is degraded, by what `Web.status` says of this host; the worst first."""
    vitals = status.get("vitals")
    spool, worker = status.get("spool") or {}, status.get("worker") or {}
    found: list[Degraded] = []
    if vitals is not None:
        found += _recording(vitals, now_us)
    found += _spool(spool)
    found += _worker(worker, loss, now_us)
    found += _storing(status.get("last_error"), loss, now_us)
    return found


def _recording(vitals: Any, now_us: int) -> Iterator[Degraded]:
    if vitals.paused_until_us > now_us:
        yield Degraded(
            what="Recording pauses",
            means=f"20 faults of ours within a minute; requests are served, but not recorded for another "
            f"{(vitals.paused_until_us - now_us) // 1_000_000} s.",
            do="See the faults below and report them.",
        )
    if vitals.in_memory:
        yield Degraded(
            what="The spool cannot be written to",
            means=f"{count(vitals.in_memory)} turns wait in the memory of their processes and are lost with them.",
            do="Free the disk, or make the directory writable; they are written as soon as it is.",
        )


def _spool(spool: Mapping[str, Any]) -> Iterator[Degraded]:
    held, most = spool.get("bytes"), spool.get("max_bytes")
    if held is not None and most and held > FULL_SHARE * most:
        yield Degraded(
            what=f"The spool is {percent(held, most)} full",
            means=f"At {size(most)} new turns are dropped, and counted.",
            do="See why the worker does not store; raise spool_max_bytes where the disk has room.",
        )


def _worker(worker: Mapping[str, Any], loss: Loss, now_us: int) -> Iterator[Degraded]:
    if worker.get("is_alive") is False and loss.in_spool:
        yield Degraded(
            what="No worker runs on this host",
            means=f"{count(loss.in_spool)} turns wait in the spool.",
            do="Start `turntrace worker`."
            if worker.get("mode") == "external"
            else "It is started again with the next recorded turn; see the log where it is not.",
        )
        return
    seen = worker.get("heartbeat_at_us")
    if seen and now_us - seen > SILENT_US and loss.in_spool:
        yield Degraded(
            what="The worker is silent",
            means=f"It last said something {ago(seen, now_us)}; {count(loss.in_spool)} turns wait in the spool.",
            do="It waits for the database or hangs: see its log.",
        )


def _storing(last_error: Any, loss: Loss, now_us: int) -> Iterator[Degraded]:
    at_us = last_error.get("at_us") if isinstance(last_error, Mapping) else None
    if at_us and now_us - at_us < RECENT_US and loss.in_spool:
        yield Degraded(
            what=f"The worker cannot store: {last_error['type']}",
            means=f"{ago(at_us, now_us)}; {count(loss.in_spool)} turns wait in the spool. Nothing is lost.",
            do="Make the database answer again; `turntrace doctor` says what it finds.",
        )
