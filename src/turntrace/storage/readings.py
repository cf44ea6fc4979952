"""How far the turns of every capturing process are accounted for: the part of the balance that files cannot tell.

A process numbers its turns. A batch says which numbers it holds; whatever lies between these and the last ones
accounted for was in files that are gone, and is counted as lost. Two workers may read one spool for a while, when its
lock was deleted under them: what one has counted as lost and the other had read before is taken back.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, select, update

from turntrace.records.batch import Reading
from turntrace.storage import bulk, tables

NOTHING: Final[Mapping[str, int]] = {"read_through": 0, "lost_after": 0, "lost_through": 0}
_UNSEEN: Final[Mapping[str, Any]] = {
    **NOTHING,
    **dict.fromkeys(("accepted", "turns", "overhead_us", "bytes_written"), 0),
    "is_dead": False,
}
_p = tables.process.c


class ReadMeanwhile(Exception):
    """Another worker has stored frames that this batch holds: the spool has to be read again."""


def refuse_read(stored: Mapping[str, int], readings: Mapping[str, Reading]) -> None:
    """Refuse a batch with frames that are stored.

    Raises:
        ReadMeanwhile: by the `stored` marks, a part of it is.
    """
    if any(stored.get(segment, 0) >= reading.first_sequence for segment, reading in readings.items()):
        raise ReadMeanwhile


def settle(connection: Connection, readings: Mapping[str, Reading], *, now_us: int) -> int:
    """Take note of turns that are read, in the transaction that stores them.

    Returns:
        How many turns before them are lost, less those that were wrongly held to be.
    """
    by_process: dict[str, list[Reading]] = {}
    for reading in readings.values():
        by_process.setdefault(reading.process_id, []).append(reading)
    lost = 0
    for process_id, state in _locked(connection, by_process, now_us).items():
        before = dict(state)
        for reading in sorted(by_process[process_id], key=lambda one: one.through):
            lost += _account(state, reading)
        if state != before:
            connection.execute(update(tables.process).where(_p.id == process_id).values(state))
    return lost


def _account(state: dict[str, int], reading: Reading) -> int:
    done, begin = state["read_through"], reading.before
    state["read_through"] = max(done, reading.through)
    if begin is None or begin == done:
        return 0
    if begin > done:
        state["lost_after"], state["lost_through"] = done, begin
        return begin - done
    return -max(min(reading.through, state["lost_through"]) - max(begin, state["lost_after"]), 0)


def _locked(connection: Connection, process_ids: Iterable[str], now_us: int) -> dict[str, dict[str, int]]:
    """What is known of these processes, theirs to change until the end of the transaction; made where it is not."""
    wanted = sorted(process_ids)
    found = _select(connection, wanted)
    missing = [one for one in wanted if one not in found]
    if missing:
        rows = [{"id": one, "seen_at_us": now_us, **_UNSEEN} for one in missing]
        connection.execute(bulk.insert_missing(connection.dialect.name, tables.process), rows)
        found = _select(connection, wanted)
    return found


def _select(connection: Connection, process_ids: list[str]) -> dict[str, dict[str, int]]:
    if not process_ids:
        return {}
    statement = (
        select(_p.id, *(_p[name] for name in NOTHING)).where(_p.id.in_(process_ids)).order_by(_p.id).with_for_update()
    )
    return {row.id: {name: int(row._mapping[name]) for name in NOTHING} for row in connection.execute(statement)}
