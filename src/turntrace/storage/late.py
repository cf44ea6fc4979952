"""Late fragments: observations and fields that join a turn which is stored already.

Whatever a fragment says, only what it really changes is counted: the facts of the turn before and after are compared,
and their difference goes to the roll-ups. The same fragment again changes nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from turntrace.records.batch import Worked
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.storage import bulk, content, narrow, restate, tables
from turntrace.storage.clean import rows as clean_rows
from turntrace.storage.content import TurnContent
from turntrace.storage.rollups import Rollup
from turntrace.storage.sessions import SessionTotals

Row = dict[str, Any]

_o = tables.observation.c
# Trace fields that a late fragment may replace, by the name of their column.
_REPLACED: Final = frozenset(
    [
        "name",
        "method",
        "route",
        "http_status",
        "outcome",
        "duration_us",
        "ttft_us",
        "last_byte_us",
        "client_left_us",
        "bytes_sent",
        "chunk_count",
        "is_streamed",
        "session_id",
        "user_id",
        "feature",
        "experiment",
        "environment",
        "release",
        "request_id",
        "service_name",
        "overhead_us",
    ]
)
# Where the turn had none, late spans may still tell.
_FILLED: Final = ("session_id", "user_id", "feature", "experiment", "release")
_UNITED: Final = ("tags", "flags")


@dataclass(slots=True)
class StoredTurn:
    """A turn as the tables have it, and what late fragments make of it."""

    row: Row
    observations: dict[str, Row]  # by span id, with the columns that facts are made of
    content: TurnContent | None = None  # read only where a fragment brings some
    new: dict[str, bulk.Values] = field(default_factory=dict)  # rows to insert by span id
    replaced: set[str] = field(default_factory=set)  # span ids of open observations that have ended
    has_content: bool = False  # there is new content

    def amend(self, worked: Worked) -> None:
        """Take one late fragment."""
        fresh = self._take_observations(worked)
        self._take_fields(worked)
        self.row.update(restate.sums_of(self.observations.values()))
        self._take_content(worked, fresh)

    def _take_observations(self, worked: Worked) -> set[str]:
        fresh: set[str] = set()
        for observation in worked.trace.observations:
            known = self.observations.get(observation.span_id)
            if known is not None and not (known["is_open"] and not observation.is_open):
                continue
            if known is not None and observation.span_id not in self.new:
                self.replaced.add(observation.span_id)
            values = narrow.observation_row(observation, worked.trace)
            self.new[observation.span_id] = values
            self.observations[observation.span_id] = dict(zip(narrow.OBSERVATION_COLUMNS, values, strict=True))
            fresh.add(observation.span_id)
        return fresh

    def _take_fields(self, worked: Worked) -> None:
        trace, row = worked.trace, self.row
        for name in _REPLACED & worked.amended:
            row[name] = getattr(trace, name)
        for name in _FILLED:
            if row[name] is None:
                row[name] = getattr(trace, name)
        for name in _UNITED:
            row[name] = _united(row[name], getattr(trace, name))
        if "feature_flags" in worked.amended:
            known = json.loads(row["feature_flags"]) if row["feature_flags"] else {}
            row["feature_flags"] = narrow.json_object({**known, **trace.feature_flags})
        for name, preview in (("input", trace.input_preview), ("output", trace.output_preview)):
            if preview is not None and (name in worked.amended or row[f"{name}_preview"] is None):
                row[f"{name}_preview"] = preview
        self._take_error(trace)
        row["redaction_failed"] += trace.redaction_failed

    def _take_error(self, trace: Trace) -> None:
        if trace.status == "error":
            self.row["status"] = "error"
        if trace.error is not None and self.row["error_type"] is None:
            self.row["error_type"], self.row["error_message"] = trace.error.type, trace.error.message

    def _take_content(self, worked: Worked, fresh: set[str]) -> None:
        brought = content.of_trace(worked.trace)
        observations = {span_id: own for span_id, own in brought.observations.items() if span_id in fresh}
        known = self.content or TurnContent()
        stated = {name for name in brought.trace if name in worked.amended or name not in known.trace}
        stated |= {"error"} if "error_stack" in brought.trace and "error_stack" not in known.trace else set()
        if not stated and not observations:
            return
        if "received" in brought.trace and "received" in known.trace:
            brought.trace["received"] = known.trace["received"] + brought.trace["received"]
        found = content.merged(known, TurnContent(brought.trace, observations), stated=stated)
        self.has_content = self.has_content or found != known
        self.content = found


def _united(text: str | None, more: Iterable[str]) -> str | None:
    known = json.loads(text) if text else []
    return narrow.strings(dict.fromkeys((*known, *more)))


def apply(
    connection: Connection,
    worked: Sequence[Worked],
    *,
    rollup: Rollup,
    sessions: SessionTotals,
    clean: bool,
    now_us: int,
) -> None:
    """Let late fragments join their turns, all of which are stored. Differences go to `rollup` and `sessions`."""
    turns = load(connection, {item.trace.id for item in worked}, with_content=_with_content(worked))
    before = {turn_id: (dict(turn.row), dict(turn.observations)) for turn_id, turn in turns.items()}
    for item in worked:
        turns[item.trace.id].amend(item)
    changed = [turn for turn in turns.values() if turn.row != before[turn.row["id"]][0] or turn.new or turn.has_content]
    tag_keys = declared(connection, rollup, worked, changed)
    for turn in changed:
        if turn.row["is_final"]:
            old_row, old_observations = before[turn.row["id"]]
            _count(turn, old_row, old_observations, tag_keys, rollup, sessions)
    _store(connection, changed, clean=clean, now_us=now_us)


def counted(connection: Connection, worked: Worked, rollup: Rollup) -> tuple[StoredTurn, list[RollupFact]]:
    """A stored turn that `worked` will replace, and the facts it has added to the roll-ups."""
    turn = load(connection, {worked.trace.id}, with_content=set())[worked.trace.id]
    tag_keys = declared(connection, rollup, [worked], [turn])
    return turn, restate.facts_of(turn.row, turn.observations.values(), tag_keys)


def _with_content(worked: Iterable[Worked]) -> set[str]:
    """Ids of turns that are brought content."""
    found = ((item.trace.id, content.of_trace(item.trace)) for item in worked)
    return {turn_id for turn_id, brought in found if brought.trace or brought.observations}


def load(connection: Connection, turn_ids: set[str], *, with_content: set[str]) -> dict[str, StoredTurn]:
    """Stored turns by id."""
    statement = select(tables.trace).where(tables.trace.c.id.in_(turn_ids))
    found = {row["id"]: StoredTurn(dict(row), {}) for row in connection.execute(statement).mappings()}
    columns = [_o[name] for name in restate.FACT_COLUMNS]
    rows = connection.execute(select(*columns).where(_o.turn_id.in_(turn_ids))).mappings()
    for row in rows:
        found[row["turn_id"]].observations[row["span_id"]] = dict(row)
    blobs = select(tables.content).where(tables.content.c.turn_id.in_(with_content & found.keys()))
    for blob in connection.execute(blobs) if with_content else ():
        found[blob.turn_id].content = content.opened(connection, blob)
    return found


def _count(
    turn: StoredTurn,
    old_row: Row,
    old_observations: Mapping[str, Row],
    declared: frozenset[str],
    rollup: Rollup,
    sessions: SessionTotals,
) -> None:
    """Put the difference between then and now into the sums."""
    before = Counter(restate.facts_of(old_row, old_observations.values(), declared))
    after = Counter(restate.facts_of(turn.row, turn.observations.values(), declared))
    for facts, sign in ((before - after, -1), (after - before, 1)):
        for fact in facts.elements():
            rollup.add(fact, sign)
    sessions.add_row(old_row, -1)
    sessions.add_row(turn.row, 1)


def declared(
    connection: Connection, rollup: Rollup, worked: Iterable[Worked], changed: Iterable[StoredTurn]
) -> frozenset[str]:
    """Tag keys that roll-ups are kept by: those that facts of this batch name, or that the roll-ups have rows of."""
    tags = rollup.tags().union(tag for item in worked for fact in item.facts for tag in fact.tags)
    known = {restate.tag_key(tag) for tag in tags}
    texts = {turn.row["tags"] for turn in changed if turn.row["tags"]}
    asked = {restate.tag_key(tag) for text in texts for tag in json.loads(text)} - known - {""}
    return frozenset(known | {key for key in asked if _has_rows(connection, key)})


def _has_rows(connection: Connection, tag_key: str) -> bool:
    r = tables.rollup.c
    # Every "key:value" sorts from "key:" up to "key;", the character after the colon.
    statement = select(r.id).where(r.dimension == "tag", r.value >= f"{tag_key}:", r.value < f"{tag_key};").limit(1)
    return connection.execute(statement).first() is not None


def _store(connection: Connection, turns: Sequence[StoredTurn], *, clean: bool, now_us: int) -> None:
    bulk.delete_keys(connection, tables.trace, "id", [turn.row["id"] for turn in turns])
    for turn in turns:
        if turn.replaced:
            key = (_o.turn_id == turn.row["id"], _o.span_id.in_(turn.replaced))
            connection.execute(tables.observation.delete().where(*key))
    rows = [tuple({**turn.row, "updated_at_us": now_us}[name] for name in narrow.TRACE_COLUMNS) for turn in turns]
    insert(connection, tables.trace, rows, clean=clean)
    insert(connection, tables.observation, [row for turn in turns for row in turn.new.values()], clean=clean)
    with_content = [turn for turn in turns if turn.has_content]
    bulk.delete_keys(connection, tables.content, "turn_id", [turn.row["id"] for turn in with_content])
    blobs = [content_row(turn.row["id"], content.pack(turn.content or TurnContent())) for turn in with_content]
    content.insert(connection, [row for row in blobs if row])


def content_row(turn_id: str, packed: content.Packed | None) -> bulk.Values | None:
    """The row of the content table; None without content."""
    return None if packed is None else (turn_id, int(packed.codec), None, packed.size, packed.data)


def insert(connection: Connection, table: Any, rows: Sequence[bulk.Values], *, clean: bool) -> None:
    """Insert rows, made acceptable first where a database refused them as they were."""
    bulk.insert_rows(connection, table, clean_rows(table, rows) if clean else rows)
