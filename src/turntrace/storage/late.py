"""Late fragments: observations and fields that join a turn which is stored already.

Whatever a fragment says, only what it really changes is counted: the facts of the turn before and after are compared,
and their difference goes to the roll-ups. The same fragment again changes nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, or_, select, update

from turntrace.records.batch import Worked
from turntrace.records.rollup import RollupFact
from turntrace.records.trace import Trace
from turntrace.storage import bulk, content, narrow, restate, strays, tables, wrappers
from turntrace.storage.clean import rows as clean_rows
from turntrace.storage.content import TurnContent
from turntrace.storage.residence import without_texts
from turntrace.storage.rollups import Rollup
from turntrace.storage.sessions import SessionTotals
from turntrace.storage.staging import LOST, Staging

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
_MESSAGES: Final = ("status_message", "error_message")  # texts in rows of observations
_UNITED: Final = ("tags", "flags")


@dataclass(slots=True)
class StoredTurn:
    """A turn as the tables have it, and what late fragments make of it."""

    row: Row
    observations: dict[str, Row]  # by span id, with the columns that facts are made of
    content: TurnContent | None = None  # read only where a fragment brings some
    new: dict[str, bulk.Values] = field(default_factory=dict)  # rows to insert by span id
    replaced: set[str] = field(default_factory=set)  # span ids of open observations that have ended
    wrapping: set[str] = field(default_factory=set)  # span ids of stored calls that turned out to wrap another one
    has_content: bool = False  # there is new content

    def amend(self, worked: Worked, *, is_away: bool = False) -> None:
        """Take one late fragment; `is_away`: content of the turn lies in a store, no text may stand in its rows."""
        bare = replace(worked, trace=without_texts(worked.trace)) if is_away else worked
        fresh = self._take_observations(bare)
        if fresh:
            self._unwrap()
        self._take_fields(bare)
        self.row.update(restate.sums_of(self.observations.values()))
        self._take_content(worked, fresh, with_messages=is_away)

    def move(self, messages: Mapping[str, Row]) -> None:
        """Its environment has changed, and with it where its content lies.

        Args:
            messages: of its observations, by span id, which stood in their rows.
        """
        known = self.content or TurnContent()
        kept = {span_id: found for span_id, found in messages.items() if span_id not in self.new}
        said = kept | self._new_messages()
        own = {span_id: {**known.observations.get(span_id, {}), **found} for span_id, found in said.items()}
        message = {"error_message": self.row["error_message"]} if self.row["error_message"] else {}
        self.content = TurnContent({**known.trace, **message}, {**known.observations, **own})
        self.row.update(dict.fromkeys(("input_preview", "output_preview", "error_message")))
        self.has_content = True

    def _new_messages(self) -> dict[str, Row]:
        """Messages that stand in rows yet to be inserted, by span id; they stand there no more."""
        found: dict[str, Row] = {}
        for span_id, values in self.new.items():
            row = dict(zip(narrow.OBSERVATION_COLUMNS, values, strict=True))
            found[span_id] = {name: row[name] for name in _MESSAGES if row[name]}
            self.new[span_id] = tuple((row | dict.fromkeys(_MESSAGES)).values())
        return {span_id: own for span_id, own in found.items() if own}

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

    def _unwrap(self) -> None:
        """Calls around others count no longer: what they state is said twice."""
        for span_id in wrappers.find(self.observations):
            self.observations[span_id] = {**self.observations[span_id], **self._chained(span_id)}

    def _chained(self, span_id: str) -> Row:
        if span_id not in self.new:
            self.wrapping.add(span_id)
            return dict(wrappers.AS_CHAIN)
        row = {**dict(zip(narrow.OBSERVATION_COLUMNS, self.new[span_id], strict=True)), **wrappers.AS_CHAIN}
        self.new[span_id] = tuple(row.values())
        return row

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

    def _take_content(self, worked: Worked, fresh: set[str], *, with_messages: bool) -> None:
        brought = content.of_trace(worked.trace, with_messages=with_messages)
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
    staging: Staging | None = None,
) -> None:
    """Let late fragments join their turns, all of which are stored. Differences go to `rollup` and `sessions`."""
    turns = load(
        connection,
        {item.trace.id for item in worked},
        with_content=_with_content(worked, is_moving=staging is not None),
        staging=staging,
    )
    before = {turn_id: (dict(turn.row), dict(turn.observations)) for turn_id, turn in turns.items()}
    for item in worked:
        _amend(connection, turns[item.trace.id], item, staging)
    changed = [turn for turn in turns.values() if turn.row != before[turn.row["id"]][0] or turn.new or turn.has_content]
    tag_keys = declared(connection, rollup, worked, changed)
    for turn in changed:
        if turn.row["is_final"]:
            old_row, old_observations = before[turn.row["id"]]
            _count(turn, old_row, old_observations, tag_keys, rollup, sessions)
    _store(connection, changed, clean=clean, now_us=now_us, staging=staging)


def _amend(connection: Connection, turn: StoredTurn, worked: Worked, staging: Staging | None) -> None:
    if staging is None:
        turn.amend(worked)
        return
    before = turn.row["environment"]
    after = worked.trace.environment if "environment" in worked.amended else before
    turn.amend(worked, is_away=staging.is_away(after))
    if before != after and (staging.is_away(before) or staging.is_away(after)):
        turn.move(_take_messages(connection, turn.row["id"]))


def _take_messages(connection: Connection, turn_id: str) -> dict[str, Row]:
    """Messages that stand in rows of observations, by span id; they stand there no more."""
    is_said = or_(*(_o[name].is_not(None) for name in _MESSAGES))
    columns = (_o.span_id, *(_o[name] for name in _MESSAGES))
    rows = connection.execute(select(*columns).where(_o.turn_id == turn_id, is_said))
    found = {row.span_id: {name: text for name in _MESSAGES if (text := getattr(row, name))} for row in rows}
    if found:
        connection.execute(update(tables.observation).where(_o.turn_id == turn_id).values(dict.fromkeys(_MESSAGES)))
    return found


def counted(connection: Connection, worked: Worked, rollup: Rollup) -> tuple[StoredTurn, list[RollupFact]]:
    """A stored turn that `worked` will replace, and the facts it has added to the roll-ups."""
    turn = load(connection, {worked.trace.id}, with_content=set())[worked.trace.id]
    tag_keys = declared(connection, rollup, [worked], [turn])
    return turn, restate.facts_of(turn.row, turn.observations.values(), tag_keys)


def _with_content(worked: Sequence[Worked], *, is_moving: bool) -> set[str]:
    """Ids of turns that are brought content, or (`is_moving`) whose environment says where it lies."""
    moved = {item.trace.id for item in worked if is_moving and "environment" in item.amended}
    found = ((item.trace.id, content.of_trace(item.trace, with_messages=is_moving)) for item in worked)
    return moved | {turn_id for turn_id, brought in found if brought.trace or brought.observations}


def opened(connection: Connection, rows: Sequence[Any], staging: Staging | None) -> dict[str, TurnContent]:
    """Content of rows of the content table, by turn id."""
    if staging is not None:
        return staging.opened(connection, rows)
    return {row.turn_id: content.opened(connection, row) for row in rows}


def load(
    connection: Connection, turn_ids: set[str], *, with_content: set[str], staging: Staging | None = None
) -> dict[str, StoredTurn]:
    """Stored turns by id."""
    statement = select(tables.trace).where(tables.trace.c.id.in_(turn_ids))
    found = {row["id"]: StoredTurn(dict(row), {}) for row in connection.execute(statement).mappings()}
    columns = [_o[name] for name in restate.FACT_COLUMNS]
    for row in connection.execute(select(*columns).where(_o.turn_id.in_(turn_ids))).mappings():
        found[row["turn_id"]].observations[row["span_id"]] = dict(row)
    blobs = select(tables.content).where(tables.content.c.turn_id.in_(with_content & found.keys()))
    rows = connection.execute(blobs).all() if with_content else ()
    for turn_id, known in opened(connection, rows, staging).items():
        found[turn_id].content = known
        if staging is not None and staging.has_lost(turn_id):
            found[turn_id].row["flags"] = _united(found[turn_id].row["flags"], [LOST])
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


def _store(
    connection: Connection, turns: Sequence[StoredTurn], *, clean: bool, now_us: int, staging: Staging | None
) -> None:
    bulk.delete_keys(connection, tables.trace, "id", [turn.row["id"] for turn in turns])
    for turn in turns:
        if turn.replaced:
            key = (_o.turn_id == turn.row["id"], _o.span_id.in_(turn.replaced))
            connection.execute(tables.observation.delete().where(*key))
        if turn.wrapping - turn.replaced:
            key = (_o.turn_id == turn.row["id"], _o.span_id.in_(turn.wrapping - turn.replaced))
            connection.execute(update(tables.observation).where(*key).values(wrappers.AS_CHAIN))
    rows = [tuple({**turn.row, "updated_at_us": now_us}[name] for name in narrow.TRACE_COLUMNS) for turn in turns]
    insert(connection, tables.trace, rows, clean=clean)
    insert(connection, tables.observation, [row for turn in turns for row in turn.new.values()], clean=clean)
    with_content = [turn for turn in turns if turn.has_content]
    replaced = [turn.row["id"] for turn in with_content]
    strays.drop_contents(connection, replaced, staging.used if staging is not None else None)
    blobs = [content_row(turn.row["id"], content.pack(turn.content or TurnContent())) for turn in with_content]
    made = [row for row in blobs if row]
    if staging is not None:
        made = staging.placed(made, {turn.row["id"]: turn.row["environment"] for turn in with_content})
    content.insert(connection, made)


def content_row(turn_id: str, packed: content.Packed | None) -> bulk.Values | None:
    """The row of the content table; None without content."""
    return None if packed is None else (turn_id, int(packed.codec), None, packed.size, packed.data)


def insert(connection: Connection, table: Any, rows: Sequence[bulk.Values], *, clean: bool) -> None:
    """Insert rows, made acceptable first where a database refused them as they were."""
    bulk.insert_rows(connection, table, clean_rows(table, rows) if clean else rows)
