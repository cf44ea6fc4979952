"""Progress marks: how far each spool segment is stored. They commit with the rows they stand for, or not at all."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, case, delete, select

from turntrace.storage import bulk, tables

_s = tables.segment.c


def load(connection: Connection) -> dict[str, int]:
    """The stored sequence number of every segment."""
    return {row.id: row.through_sequence for row in connection.execute(select(_s.id, _s.through_sequence))}


def get(connection: Connection, segment: str) -> int:
    """The sequence number through which a segment is stored; -1: nothing of it."""
    found = connection.execute(select(_s.through_sequence).where(_s.id == segment)).scalar()
    return -1 if found is None else int(found)


def of(connection: Connection, segments: Iterable[str]) -> dict[str, int]:
    """The stored sequence numbers of these segments, without those never heard of."""
    wanted = sorted(segments)
    if not wanted:
        return {}
    statement = select(_s.id, _s.through_sequence).where(_s.id.in_(wanted))
    return {row.id: row.through_sequence for row in connection.execute(statement)}


def are_reached(stored: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether all of these marks are set as far or farther; False for none."""
    return bool(wanted) and all(stored.get(segment, -1) >= through for segment, through in wanted.items())


def advance(connection: Connection, marks: Mapping[str, int], *, now_us: int) -> None:
    """Set marks, never back."""
    if not marks:
        return
    statement = bulk.upsert(
        connection.dialect.name,
        tables.segment,
        lambda new: {
            "through_sequence": case(
                (new.through_sequence > _s.through_sequence, new.through_sequence), else_=_s.through_sequence
            ),
            "updated_at_us": new.updated_at_us,
        },
    )
    # In one order everywhere: two workers that take rows in different orders deadlock.
    rows = [{"id": i, "through_sequence": n, "updated_at_us": now_us} for i, n in sorted(marks.items())]
    connection.execute(statement, rows)


def prune(connection: Connection, *, before_us: int) -> int:
    """Delete marks not advanced since `before_us`, whose segments are long gone; answers how many."""
    return connection.execute(delete(tables.segment).where(_s.updated_at_us < before_us)).rowcount
