"""What retention deletes, a few rows in one transaction: contents of turns, whole turns, and sums past their time.

Where a walk over the turns stands is a row of the setting table, written with what was deleted: it goes on there. A
day later it begins anew, for turns that came in since with an old start.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, or_, select, true, tuple_, update

from turntrace.storage import bulk, strays, switches, tables, tombstones
from turntrace.storage.belonging import TURN_TABLES, short
from turntrace.storage.rollups import PEOPLE
from turntrace.storage.tables.rollup import WHOLE

DAY_US: Final = 86_400 * 1_000_000
PINNED: Final = "pinned"  # a tag that says: keep this turn longer
_CONTENT, _NUMBERS = "content", "numbers"
BEGIN: Final = (0, "")

_t, _o, _c, _s = tables.trace.c, tables.observation.c, tables.content.c, tables.score.c
_remark = tables.comment.c
_r, _h, _stone = tables.rollup.c, tables.histogram.c, tables.tombstone.c
# Datasets are made by people, to last: what became of a turn in them goes with its subject, not with its age.
_CURATED: Final = frozenset({tables.dataset_item, tables.run_item})
GOING: Final = tuple(table for table in TURN_TABLES if table not in _CURATED)
# Tables that no age empties, and why. A test knows every table either from here or from the rules below.
LEFT_ALONE: Final[Mapping[str, str]] = {
    "dataset_item": "people make datasets to last: goes with its subject",
    "run_item": "results of an experiment over such a dataset: go with their subject",
    "audit": "the proof of who saw and did what: names no subject, its rows are chained",
    "erasure": "receipts: name nobody",
    "saved_view": "a setting of a person who works here; goes with a subject it names",
    **dict.fromkeys(
        ("account", "alert_rule", "annotation_queue", "api_key", "dataset", "destination", "evaluator",
         "evaluator_version", "experiment", "experiment_run", "price", "probe", "prompt", "prompt_label",
         "prompt_version", "score_config", "setting", "spending_rule"),
        "a definition or setting, made by people who work here",
    ),
    **dict.fromkeys(("job_run", "panel_session", "login_attempt"), "pruned within days by who writes it"),
    **dict.fromkeys(("fence", "lease", "process", "segment", "loss", "budget"), "counts and marks; of nobody"),
    "stray": "what is yet to be deleted in another database: goes with that, within seconds",
}  # fmt: skip
_DIMENSIONS: Final = ("", "user", "session", "route", "release", "experiment", "prompt", "tag", "input_length", "step")
_OF_PEOPLE: Final = ("user", "session", "tag")  # a declared tag may be the number of a customer
_GRAINS: Final = ("hour", "day")
_METRICS: Final = ("duration", "ttft", "call_duration", "call_ttft", "call_tpot", "call_input", "call_output")


@dataclass(frozen=True, slots=True)
class Walk:
    """Turns of one age, from the oldest on: those of `environment` (None: of all but `others`), unless spared.

    `kind` says what goes: `content`, or `numbers` (the whole turn).
    """

    kind: str
    environment: str | None
    others: tuple[str, ...]
    days: int
    spared: frozenset[str]  # flags: error, annotated, pinned

    @property
    def name(self) -> str:
        """Of the setting that says where it stands."""
        return f"retain:{self.kind}:{self.environment or '*'}:{self.days}"


@dataclass(frozen=True, slots=True)
class Found:
    """Some turns of a walk: those that go, and where the next ones begin."""

    turn_ids: tuple[str, ...]
    position: tuple[int, str]
    is_last: bool


def position(connection: Connection, walk: Walk, now_us: int) -> tuple[int, str]:
    """Where a walk stands: start and id of the last turn that was looked at."""
    text = switches.get(connection, walk.name)
    day, at_us, turn_id = json.loads(text) if text else (None, *BEGIN)
    return (at_us, turn_id) if day == now_us // DAY_US else BEGIN


def keep_position(connection: Connection, walk: Walk, reached: tuple[int, str], now_us: int) -> None:
    """Write down where a walk stands."""
    switches.put(connection, walk.name, json.dumps([now_us // DAY_US, *reached]), now_us=now_us)


def look(connection: Connection, walk: Walk, after: tuple[int, str], now_us: int, limit: int) -> Found:
    """The next turns of a walk; never more than `limit` rows are looked at."""
    end_us = now_us - walk.days * DAY_US
    wanted = [_t.started_at_us < end_us, _after(after)]
    if walk.environment is not None:
        wanted.append(_t.environment == walk.environment)
    elif walk.others:
        wanted.append(_t.environment.not_in(walk.others))
    columns = (_t.id, _t.started_at_us, _t.status, _t.tags, _t.error_count, _has_texts().label("has_texts"))
    statement = select(*columns).where(*wanted).order_by(_t.started_at_us, _t.id).limit(limit)
    bulk.go_in_order(connection)
    rows = connection.execute(statement).all()
    due = [row for row in rows if row.has_texts or walk.kind == _NUMBERS]
    if len(due) < len(rows):
        said = _said_of(connection, [row for row in rows if not row.has_texts], end_us)
        due = [row for row in rows if row.has_texts or row.id in said]
    spared = _spared(connection, due, walk.spared)
    reached = (int(rows[-1].started_at_us), str(rows[-1].id)) if rows else after
    return Found(tuple(row.id for row in due if row.id not in spared), reached, len(rows) < limit)


def _after(place: tuple[int, str]) -> ColumnElement[bool]:
    at_us, turn_id = place
    # Both parts: only the first of them is one that an index is entered by.
    return and_(_t.started_at_us >= at_us, or_(_t.started_at_us > at_us, _t.id > turn_id))


def _has_texts() -> ColumnElement[bool]:
    texts = (_t.input_preview, _t.output_preview, _t.error_message)
    return or_(*(text.is_not(None) for text in texts), exists().where(_c.turn_id == _t.id))


def _said_of(connection: Connection, rows: Sequence[Any], end_us: int) -> set[str]:
    """Those of these turns, which have no texts of their own (any more), that have old ones hanging on them.

    Judgements and remarks come when they like: they go by their own age. Messages of steps without other texts are
    those of errors: of the many other turns no step is read. By ids: a planner may read a whole table for an EXISTS.
    """
    if not rows:
        return set()
    ids, failed = [row.id for row in rows], [row.id for row in rows if row.error_count]
    scored = (bulk.among(connection, _s.turn_id, ids), _s.created_at_us < end_us, or_(_written(), _worded()))
    quoted = (bulk.among(connection, _remark.turn_id, ids), _remark.created_at_us < end_us, _remark.quote.is_not(None))
    statements = [select(_s.turn_id).where(*scored), select(_remark.turn_id).where(*quoted)]
    if failed:
        statements.append(select(_o.turn_id).where(bulk.among(connection, _o.turn_id, failed), _messages()))
    return {row[0] for statement in statements for row in connection.execute(statement)}


def _messages() -> ColumnElement[bool]:
    return or_(_o.status_message.is_not(None), _o.error_message.is_not(None))


def _written() -> ColumnElement[bool]:
    return or_(_s.comment.is_not(None), _s.details.is_not(None))


def _worded() -> ColumnElement[bool]:
    return and_(_s.data_type.in_(("text", "correction")), _s.text.is_not(None))


def _spared(connection: Connection, rows: Sequence[Any], flags: frozenset[str]) -> set[str]:
    found = set()
    if "error" in flags:
        found |= {row.id for row in rows if row.status == "error"}
    if "pinned" in flags:
        found |= {row.id for row in rows if row.tags and PINNED in json.loads(row.tags)}
    ids = [row.id for row in rows if row.id not in found]
    if "annotated" in flags and ids:
        scored = select(_s.turn_id).where(_s.turn_id.in_(ids), _s.source == "human")
        remarked = select(_remark.turn_id).where(_remark.turn_id.in_(ids))
        found |= {row[0] for statement in (scored, remarked) for row in connection.execute(statement)}
    return found


def drop(connection: Connection, walk: Walk, turn_ids: Sequence[str]) -> Mapping[str, int]:
    """Delete what the walk is about, of these turns; answers rows by table."""
    if not turn_ids:
        return {}
    bulk.go_by_index(connection)
    return _drop_contents(connection, turn_ids) if walk.kind == _CONTENT else _drop_turns(connection, turn_ids)


def _drop_contents(connection: Connection, turn_ids: Sequence[str]) -> Mapping[str, int]:
    """Texts go; numbers, names and judgements stay."""
    deleted = strays.drop_contents(connection, turn_ids)
    bulk.delete_keys(connection, tables.received, "turn_id", turn_ids)
    blank = {"input_preview": None, "output_preview": None, "error_message": None}
    connection.execute(update(tables.trace).where(bulk.among(connection, _t.id, turn_ids)).values(blank))
    said = and_(bulk.among(connection, _o.turn_id, turn_ids), _messages())
    connection.execute(update(tables.observation).where(said).values(status_message=None, error_message=None))
    written = and_(bulk.among(connection, _s.turn_id, turn_ids), _written())
    connection.execute(update(tables.score).where(written).values(comment=None, details=None))
    quoted = and_(bulk.among(connection, _remark.turn_id, turn_ids), _remark.quote.is_not(None))
    connection.execute(update(tables.comment).where(quoted).values(quote=None))
    worded = and_(bulk.among(connection, _s.turn_id, turn_ids), _worded())
    connection.execute(update(tables.score).where(worded).values(text=None))
    return {"content": deleted}


def _drop_turns(connection: Connection, turn_ids: Sequence[str]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for table in GOING:
        counts[short(table)] += strays.drop_of_turns(connection, table, turn_ids)
    counts["trace"] += bulk.delete_keys(connection, tables.trace, "id", turn_ids)
    return {name: number for name, number in counts.items() if number}


# --- what has a time of its own --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aged:
    """Rows of a table that are past their time."""

    table: Table
    condition: ColumnElement[bool]

    @property
    def name(self) -> str:
        """The table's, without our prefix."""
        return short(self.table)


def aged(before_us: int, sums_before_us: int | None = None) -> Iterator[Aged]:
    """What is past its time, a condition that an index answers at a time.

    Args:
        sums_before_us: roll-ups that name nobody stay from then on; none: as the rest.
    """
    sums_us = before_us if sums_before_us is None else sums_before_us
    return (Aged(table, condition) for table, condition in _aged(before_us, sums_us))


def _aged(before_us: int, sums_us: int) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    yield tables.session, tables.session.c.last_at_us < before_us
    yield tables.sampled, tables.sampled.c.at_us < before_us
    yield tables.score, and_(_s.created_at_us < before_us, _s.turn_id.is_(None))
    # Of sessions as a whole: what hangs on a turn goes with it.
    for table in (tables.evaluation, tables.comment, tables.queue_item):
        yield table, and_(table.c.turn_id.is_(None), table.c.created_at_us < before_us)
    yield tables.backfill, and_(tables.backfill.c.finished_at_us < before_us, tables.backfill.c.status != "running")
    yield tables.alert, and_(tables.alert.c.opened_at_us < before_us, tables.alert.c.status == "resolved")
    yield tables.spending, tables.spending.c.period_at_us < before_us
    for is_compacted in (True, False):
        for grain in _GRAINS:
            place = (_r.grain == grain, _r.is_compacted == is_compacted)
            for dimension in _DIMENSIONS:
                end_us = before_us if dimension in _OF_PEOPLE else sums_us
                yield tables.rollup, and_(_r.dimension == dimension, *place, _r.at_us < end_us)
            of_time = (_h.grain == grain, _h.is_compacted == is_compacted, _h.at_us < sums_us)
            for metric in _METRICS:
                yield tables.histogram, and_(_h.metric == metric, *of_time)
    for dimension in PEOPLE:
        is_whole = and_(_r.dimension == dimension, _r.grain == WHOLE, _r.is_compacted == true())
        yield tables.rollup, and_(is_whole, _r.at_us < before_us)
    ends = or_(_stone.until_us.is_not(None), _stone.kind.in_((tombstones.TURN, tombstones.TRACE)))
    yield tables.tombstone, and_(_stone.created_at_us < before_us, ends)


def prune(connection: Connection, found: Aged, limit: int) -> int:
    """Delete some rows; answers how many."""
    bulk.go_by_index(connection)
    table = found.table
    key = list(table.primary_key.columns)
    rows = connection.execute(select(*key).where(found.condition).limit(limit)).all()
    if not rows:
        return 0
    if len(key) == 1:
        return bulk.delete_keys(connection, table, key[0].name, [row[0] for row in rows])
    wanted = tuple_(*key).in_([tuple(row) for row in rows])
    return int(connection.execute(delete(table).where(wanted)).rowcount)
