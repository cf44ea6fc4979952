"""Progress of writers, the loss balance, leases and runs of jobs."""

from typing import Final

from sqlalchemy import String, UniqueConstraint

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    PREFIX,
    Count,
    Flag,
    Instant,
    LongText,
    Row,
    Serial,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class SegmentRow(Row, table=True):
    """How far one spool segment is stored: frames up to `through_sequence` are in."""

    id: str = column(fixed(64), primary_key=True)
    through_sequence: int = column(Count)
    updated_at_us: int = column(Instant)


class LossRow(Row, table=True):
    """Turns by what became of them: `stored`, `sampled`, `erased`, and `dropped:<reason>` that the worker counted.

    Append-only deltas by reason and batch, merged by the compactor: readers sum.
    """

    __table_args__ = options(index("loss_reason", "reason"))

    id: int = column(Serial, primary_key=True, autoincrement=True)
    reason: str = column(String(100))
    n: int = column(Count)
    at_us: int = column(Instant)


class ProcessRow(Row, table=True):
    """Absolute counters of one capturing process, and how far its turns are accounted for.

    `dropped` and `faults` are JSON objects of counts by name.
    """

    __table_args__ = options(index("process_seen", "seen_at_us"))

    id: str = column(fixed(64), primary_key=True)
    accepted: int = column(Count)
    turns: int = column(Count)
    overhead_us: int = column(Count)
    bytes_written: int = column(Count)
    dropped: str | None = optional(LongText)
    faults: str | None = optional(LongText)
    seen_at_us: int = column(Instant)
    is_dead: bool = column(Flag)
    read_through: int = column(Count)  # turns, counted from its first one, that are stored or counted as lost
    lost_after: int = column(Count)  # the last that were lost because what held them was gone: those after this one
    lost_through: int = column(Count)  # and through this one


class LeaseRow(Row, table=True):
    """Who may do a thing that one only does, until when by the database's clock. `epoch` grows with every owner."""

    name: str = column(fixed(64), primary_key=True)
    owner: str = column(fixed(128))
    epoch: int = column(Count)
    expires_at_us: int = column(Instant)


class JobRunRow(Row, table=True):
    """One run of a job in one slot of time: unique, so that a stalled leader cannot run it twice."""

    __table_args__ = options(
        UniqueConstraint("job", "slot_at_us", name=f"uq_{PREFIX}job_run_slot"),
        index("job_run_started", "started_at_us"),
    )

    id: int = column(Serial, primary_key=True, autoincrement=True)
    job: str = column(fixed(64))
    slot_at_us: int = column(Instant)
    owner: str = column(fixed(128))
    epoch: int = column(Count)
    status: str = column(Word)  # running, done, failed
    started_at_us: int = column(Instant)
    finished_at_us: int | None = optional(Instant)
    details: str | None = optional(LongText)  # JSON: counts, error type


class SettingRow(Row, table=True):
    """Values that every process polls, such as the kill switch (`enabled`)."""

    name: str = column(fixed(64), primary_key=True)
    value: str = column(LongText)
    author: str | None = optional(String(length.NAME))
    updated_at_us: int = column(Instant)


segment: Final = table(SegmentRow)
loss: Final = table(LossRow)
process: Final = table(ProcessRow)
lease: Final = table(LeaseRow)
job_run: Final = table(JobRunRow)
setting: Final = table(SettingRow)
