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
    SpanId,
    TurnId,
    Word,
    column,
    fixed,
    index,
    optional,
    table,
)

# A named collection of items.
dataset: Final = table(
    "dataset",
    column("id", fixed(32), primary_key=True),
    column("name", String(length.PROMPT)),
    optional("description", LongText),
    optional("details", LongText),  # JSON
    column("version", Count),  # grows with every change of its items
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("dataset_name", "name", unique=True),
)

# One input with what is expected of it, valid from one dataset version until before another.
dataset_item: Final = table(
    "dataset_item",
    column("id", fixed(32), primary_key=True),
    column("dataset_id", fixed(32)),
    column("item_key", String(length.NAME)),  # stable over versions
    column("input", ContentJson),  # JSON
    optional("expected", ContentJson),  # JSON
    optional("details", LongText),  # JSON
    column("from_version", Count),
    optional("until_version", Count),
    optional("turn_id", TurnId),
    optional("span_id", SpanId),
    optional("user_id", String(length.USER_ID)),
    optional("author", String(length.NAME)),
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("dataset_item_dataset", "dataset_id", "created_at_us", "id"),
    index("dataset_item_turn", "turn_id"),
    index("dataset_item_user", "user_id"),
)

# A question asked of a dataset: its runs are compared with each other.
experiment: Final = table(
    "experiment",
    column("id", fixed(32), primary_key=True),
    column("name", String(length.EXPERIMENT)),
    optional("dataset_id", fixed(32)),
    optional("description", LongText),
    optional("details", LongText),  # JSON
    column("created_at_us", Instant),
    column("updated_at_us", Instant),
    index("experiment_name", "name", unique=True),
)

# One pass over a dataset version; `summary` is JSON of score statistics.
experiment_run: Final = table(
    "experiment_run",
    column("id", fixed(32), primary_key=True),
    column("experiment_id", fixed(32)),
    column("name", String(length.NAME)),
    optional("dataset_version", Count),
    column("status", Word),
    optional("details", LongText),  # JSON: configuration
    optional("summary", LongText),  # JSON
    optional("author", String(length.NAME)),
    column("started_at_us", Instant),
    optional("finished_at_us", Instant),
    index("experiment_run_experiment", "experiment_id", "started_at_us"),
)

# What one run made of one item.
run_item: Final = table(
    "run_item",
    column("id", fixed(32), primary_key=True),
    column("run_id", fixed(32)),
    column("item_id", fixed(32)),
    column("repetition", Count),
    optional("output", ContentJson),  # JSON
    optional("error_type", String(length.NAME)),
    optional("duration_us", Count),
    optional("cost_total_nano", Nano),
    optional("turn_id", TurnId),  # the trace the run left
    optional("user_id", String(length.USER_ID)),  # subject of the item
    column("is_cached", Flag),
    column("created_at_us", Instant),
    index("run_item_run", "run_id", "item_id"),
    index("run_item_item", "item_id"),
    index("run_item_turn", "turn_id"),
    index("run_item_user", "user_id"),
)
