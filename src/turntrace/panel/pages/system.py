"""System: whether every turn is accounted for, and how Turntrace itself is doing."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.destination import destination_rows
from turntrace.panel.gate.role import Role
from turntrace.panel.health import degraded
from turntrace.panel.visit import visit_of
from turntrace.records.loss import Loss
from turntrace.settings import Settings
from turntrace.storage import audit, meter
from turntrace.storage.queries import evaluators
from turntrace.storage.queries.outbound import destinations
from turntrace.storage.queries.system import SystemFacts, system

AUDIT_ROWS: Final = 20
_REASONS: Mapping[str, str] = {
    "spool_full": "the spool was full",
    "disk_full": "the disk was full",
    "oversize": "one turn was larger than a frame may be",
    "poison": "the turn could not be worked on",
}


def show(request: Request) -> Response:
    """`GET /system`."""
    visit = visit_of(request)
    status = dict(visit.context.status())
    loss = visit.context.loss()
    with visit.context.database.whole.read() as connection:
        facts = system(connection)
        storage = meter.read(connection, limit_bytes=visit.context.settings.storage_max_bytes)
        sent_on = destinations(connection)
        names = {item.id: item.name for item in evaluators.list_evaluators(connection)}
        entries = audit.list_entries(connection, limit=AUDIT_ROWS) if visit.viewer.may(Role.OPERATOR) else ()
    settings = visit.context.settings
    return visit.render(
        "system.html",
        section="system",
        title="System",
        loss=loss,
        dropped=[
            (_REASONS.get(name, name.replace("_", " ")), number) for name, number in loss.dropped.items() if number
        ],
        facts=facts,
        jobs=[(_job_label(run.job, names), run) for run in facts.jobs],
        destinations=destination_rows(visit.context.settings, sent_on),
        status=status,
        spool=status.get("spool") or {},
        worker=status.get("worker") or {},
        last_error=status.get("last_error"),
        overhead=overhead(facts),
        cpu_share=cpu_share(status.get("vitals")),
        degraded=degraded(status, loss, now_us=visit.now_us),
        warnings=[*warnings(settings, visit.context.keyring.is_explicit, loss), *status.get("warnings", ())],
        retention=settings.retention(),
        retention_rules=settings.retention_rules(),
        meter=storage,
        settings=settings,
        faults=_faults(facts),
        entries=entries,
    )


def _job_label(job: str, evaluator_names: Mapping[str, str]) -> str:
    kind, _, evaluator_id = job.partition(":")
    return f"{kind}: {evaluator_names.get(evaluator_id, evaluator_id)}" if evaluator_id else job


def overhead(facts: SystemFacts) -> Mapping[str, Any]:
    """What recording cost the host: microseconds and spooled bytes per turn, over all known processes."""
    turns = sum(process.turns for process in facts.processes)
    spent = sum(process.overhead_us for process in facts.processes)
    written = sum(process.bytes_written for process in facts.processes)
    return {
        "turns": turns,
        "us_per_turn": round(spent / turns) if turns else None,
        "bytes_per_turn": round(written / turns) if turns else None,
    }


def cpu_share(vitals: Any) -> float | None:
    """Our own time on the request path as a share (0..1) of all CPU time of the capturing processes on this host."""
    return vitals.overhead_us / vitals.cpu_us if vitals is not None and vitals.cpu_us else None


def _faults(facts: SystemFacts) -> dict[str, int]:
    found: dict[str, int] = {}
    for process in facts.processes:
        for seam, number in process.faults.items():
            found[seam] = found.get(seam, 0) + number
    return {seam: number for seam, number in sorted(found.items()) if number}


def warnings(settings: Settings, key_is_explicit: bool, loss: Loss) -> list[str]:
    """What an operator should know about the settings and the balance."""
    found: list[str] = []
    if settings.content == "full":
        found.append(
            "Texts are stored unredacted (content=full, redaction=off). Everybody with the role reader sees them."
        )
    if not key_is_explicit:
        found.append(
            "No secret_key is set: a key was generated on this host. Set one before a second host joins, "
            "or its spool and pseudonyms cannot be read there."
        )
    if not loss.is_balanced:
        found.append(
            "The loss balance does not add up at this moment. Between two reads that is normal; if it stays, report it."
        )
    if not settings.enabled:
        found.append("Recording is switched off (enabled=0).")
    return found
