"""Datasets and experiments. Items and run items name the turn and subject they came from, for erasure."""

from typing import Final

from sqlalchemy import String

from turntrace.storage.tables import length
from turntrace.storage.tables.column import (
    ContentJson,
    Count,
    Flag,
    Instant,
    LongText,
    Nano,
    Row,
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    options,
    table,
)


class DatasetRow(Row, table=True):
    """A named collection of items."""

    __table_args__ = options(index("dataset_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(length.PROMPT))
    description: str | None = optional(LongText)
    details: str | None = optional(LongText)  # JSON
    version: int = column(Count)  # grows with every change of its items
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class DatasetItemRow(Row, table=True):
    """One input with what is expected of it, valid from one dataset version until before another."""

    __table_args__ = options(
        index("dataset_item_dataset", "dataset_id", "created_at_us", "id"),
        index("dataset_item_turn", "turn_id"),
        index("dataset_item_user", "user_id"),
    )

    id: str = column(fixed(32), primary_key=True)
    dataset_id: str = column(fixed(32))
    item_key: str = column(String(length.NAME))  # stable over versions
    input: str = column(ContentJson)  # JSON
    expected: str | None = optional(ContentJson)  # JSON
    details: str | None = optional(LongText)  # JSON
    from_version: int = column(Count)
    until_version: int | None = optional(Count)
    turn_id: str | None = optional(TurnId)
    span_id: str | None = optional(SpanId)
    user_id: str | None = optional(String(length.USER_ID))
    author: str | None = optional(String(length.NAME))
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class ExperimentRow(Row, table=True):
    """A question asked of a dataset: its runs are compared with each other."""

    __table_args__ = options(index("experiment_name", "name", unique=True))

    id: str = column(fixed(32), primary_key=True)
    name: str = column(String(length.EXPERIMENT))
    dataset_id: str | None = optional(fixed(32))
    description: str | None = optional(LongText)
    details: str | None = optional(LongText)  # JSON
    created_at_us: int = column(Instant)
    updated_at_us: int = column(Instant)


class ExperimentRunRow(Row, table=True):
    """One pass over a dataset version; `summary` is JSON of score statistics."""

    __table_args__ = options(index("experiment_run_experiment", "experiment_id", "started_at_us"))

    id: str = column(fixed(32), primary_key=True)
    experiment_id: str = column(fixed(32))
    name: str = column(String(length.NAME))
    dataset_version: int | None = optional(Count)
    status: str = column(Word)
    details: str | None = optional(LongText)  # JSON: configuration
    summary: str | None = optional(LongText)  # JSON
    author: str | None = optional(String(length.NAME))
    started_at_us: int = column(Instant)
    finished_at_us: int | None = optional(Instant)


class RunItemRow(Row, table=True):
    """What one run made of one item."""

    __table_args__ = options(
        index("run_item_run", "run_id", "item_id"),
        index("run_item_item", "item_id"),
        index("run_item_turn", "turn_id"),
        index("run_item_user", "user_id"),
    )

    id: str = column(fixed(32), primary_key=True)
    run_id: str = column(fixed(32))
    item_id: str = column(fixed(32))
    repetition: int = column(Count)
    output: str | None = optional(ContentJson)  # JSON
    error_type: str | None = optional(String(length.NAME))
    duration_us: int | None = optional(Count)
    cost_total_nano: int | None = optional(Nano)
    turn_id: str | None = optional(TurnId)  # the trace the run left
    user_id: str | None = optional(String(length.USER_ID))  # subject of the item
    is_cached: bool = column(Flag)
    created_at_us: int = column(Instant)


dataset: Final = table(DatasetRow)
dataset_item: Final = table(DatasetItemRow)
experiment: Final = table(ExperimentRow)
experiment_run: Final = table(ExperimentRunRow)
run_item: Final = table(RunItemRow)
