"""What deletes the rows of a person, a session or a turn, a few turns at a time. Receipts are in `storage.receipts`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, insert, select, update

from turntrace.records.erasure import Target
from turntrace.storage import bulk, naming, strays, tables, tombstones
from turntrace.storage.belonging import TURN_TABLES, USER_TABLES, of_user, short, turn_sources
from turntrace.storage.sessions import SessionTotals
from turntrace.storage.tables.rollup import WHOLE

ERASED: Final = "erased"  # stands in roll-ups where an identity was
_EVALUATION: Final = "turntrace-evaluation"  # environment of judges' own turns
_LATE_UNCOUNTED: Final = "late_first"  # flag of a turn that is not counted as stored yet
_PAGE: Final = 500
_SECURE_DELETE: Final = ("OFF", "ON", "FAST")
_TURN_ID: Final = re.compile(r"[0-9a-f]{32}")

_trace, _o, _s, _r = tables.trace.c, tables.observation.c, tables.session.c, tables.rollup.c
_item, _run, _evaluation, _score = tables.dataset_item.c, tables.run_item.c, tables.evaluation.c, tables.score.c
_alert, _probe = tables.alert.c, tables.probe.c

_CONVERSATION_TABLES: Final = tuple(table for table in TURN_TABLES if {"session_id", "user_id"} <= set(table.c.keys()))
# Columns of a trace that taking it out of the sums needs.
_TRACE_COLUMNS: Final = [
    _trace[name]
    for name in [
        "id",
        "trace_id",
        "session_id",
        "user_id",
        "environment",
        "status",
        "started_at_us",
        "duration_us",
        "input_tokens",
        "output_tokens",
        "cost_total_nano",
        "is_final",
        "flags",
    ]
]


@contextmanager
def overwriting(connection: Connection) -> Iterator[None]:
    """Have SQLite overwrite what is deleted inside, on a connection of the host's; elsewhere nothing."""
    if connection.dialect.name != "sqlite":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar()
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete={_SECURE_DELETE[int(before or 0)]}")


class Eraser:
    """Erases a target in one transaction, whose fence must be held exclusively. `counts` are rows by table."""

    def __init__(
        self, connection: Connection, target: Target, *, erasure_id: str, digest_key: str, now_us: int
    ) -> None:
        self._c, self._target = connection, target
        self._erasure_id, self._digest_key, self._now_us = erasure_id, digest_key, now_us
        self.counts: Counter[str] = Counter()

    def erase_turns(self, limit: int) -> int:
        """Erase the next turns with all that came of them; answers how many, 0: none is left."""
        found = self._next_turns(limit)
        if found:
            self._erase(found | self._derived_turns(found))
        return len(found)

    def erase_rest(self) -> None:
        """Erase what hangs on the person or the session and on no turn."""
        if self._target.user_ids:
            self._erase_by_user()
            self._settle_sessions(_s.user_id.in_(self._target.user_ids))
            self._rename("user", self._target.user_ids)
        for session_id, user_id in self._target.sessions:
            self._settle_sessions(and_(_s.session_id == session_id, _s.user_id == user_id))
            self._forget_sessions({session_id})
        self.counts.update(naming.forget(self._c, self._target.user_ids, now_us=self._now_us))
        self._clean_alerts()

    # --- turns ---

    def _next_turns(self, limit: int) -> set[str]:
        found: set[str] = set()
        for statement in turn_sources(self._target):
            if len(found) < limit:
                # Locked: under REPEATABLE READ (a host's transaction on MariaDB) a plain read sees an old moment.
                rows = self._c.execute(statement.limit(limit - len(found)).with_for_update())
                found.update(row[0] for row in rows)
        return found

    def _derived_turns(self, turn_ids: set[str]) -> set[str]:
        """Turns made from these: of judges that read them, of experiments over items made from them."""
        judged = select(_evaluation.judge_turn_id).where(self._among(_evaluation.turn_id, turn_ids))
        run = select(_run.turn_id).where(_run.item_id.in_(self._items(self._among(_item.turn_id, turn_ids))))
        return {row[0] for statement in (judged, run) for row in self._c.execute(statement) if row[0]}

    def _erase(self, turn_ids: set[str]) -> None:
        found = self._c.execute(select(*_TRACE_COLUMNS).where(self._among(_trace.id, turn_ids)))
        rows: list[Mapping[str, Any]] = [dict(row) for row in found.mappings()]
        self._erase_items(self._among(_item.turn_id, turn_ids))
        for table in TURN_TABLES:
            self._count(table, strays.drop_of_turns(self._c, table, turn_ids))
        self._count(tables.trace, bulk.delete_keys(self._c, tables.trace, "id", turn_ids))
        trace_ids = self._forget_trace_ids({row["trace_id"] for row in rows})
        buried = [tombstones.Row(tombstones.TURN, turn_id, None) for turn_id in turn_ids]
        buried += [tombstones.Row(tombstones.TRACE, trace_id, None) for trace_id in trace_ids]
        tombstones.add(self._c, buried, now_us=self._now_us, erasure_id=self._erasure_id)
        self._take_from_sessions(rows)
        self._take_from_balance(rows)
        if any(row["environment"] == _EVALUATION for row in rows):
            blank = update(tables.evaluation).where(self._among(_evaluation.judge_turn_id, turn_ids))
            self._c.execute(blank.values(judge_turn_id=None))
        probed = update(tables.probe).where(self._among(_probe.last_turn_id, turn_ids))
        self._c.execute(probed.values(last_turn_id=None))

    def _forget_trace_ids(self, trace_ids: set[str]) -> set[str]:
        """Scores that know an erased turn by its W3C id only; answers the ids that no turn has any more."""
        found = select(_trace.trace_id).where(self._among(_trace.trace_id, trace_ids))
        left = {row[0] for row in self._c.execute(found)}
        gone = trace_ids - left
        waiting = delete(tables.score).where(self._among(_score.trace_id, gone), _score.turn_id.is_(None))
        self._count(tables.score, self._c.execute(waiting).rowcount)
        return gone

    def _take_from_sessions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        totals, ids, users = SessionTotals(), set(), set()
        for row in rows:
            if row["session_id"]:
                ids.add(row["session_id"])
                users.add(row["user_id"] or "")
                if row["is_final"]:
                    totals.add_row(row, -1)
        theirs = and_(self._among(_s.session_id, ids), self._among(_s.user_id, users))
        number = select(func.count()).select_from(tables.session).where(theirs)
        before = self._c.execute(number).scalar_one()
        totals.store(self._c)
        self._count(tables.session, before - self._c.execute(number).scalar_one())
        self._forget_sessions(ids)

    def _take_from_balance(self, rows: Iterable[Mapping[str, Any]]) -> None:
        flags = [row["flags"] or "" for row in rows]
        stored = sum(1 for found in flags if _LATE_UNCOUNTED not in found)
        changes = [("stored", -stored), ("erased", len(flags))]
        values = [{"reason": reason, "n": n, "at_us": self._now_us} for reason, n in changes if n]
        if values:
            self._c.execute(insert(tables.loss), values)

    # --- datasets ---

    def _items(self, condition: Any) -> set[str]:
        """Dataset items under a condition, and other versions of the same items."""
        found = self._c.execute(select(_item.id, _item.dataset_id, _item.item_key).where(condition)).all()
        ids = {row.id for row in found}
        for dataset_id in {row.dataset_id for row in found}:
            keys = {row.item_key for row in found if row.dataset_id == dataset_id}
            same = select(_item.id).where(_item.dataset_id == dataset_id, _item.item_key.in_(keys))
            ids.update(row.id for row in self._c.execute(same))
        return ids

    def _erase_items(self, condition: Any) -> None:
        items = self._items(condition)
        if not items:
            return
        runs = [row[0] for row in self._c.execute(select(_run.id).where(_run.item_id.in_(items)))]
        for column, keys in (("dataset_item_id", items), ("run_item_id", runs)):
            self._count(tables.score, bulk.delete_keys(self._c, tables.score, column, keys))
        self._count(tables.run_item, bulk.delete_keys(self._c, tables.run_item, "id", runs))
        self._count(tables.dataset_item, bulk.delete_keys(self._c, tables.dataset_item, "id", items))

    # --- people ---

    def _erase_by_user(self) -> None:
        self._erase_items(of_user(tables.dataset_item, self._target))
        for table in USER_TABLES:
            found = self._c.execute(delete(table).where(of_user(table, self._target)))
            self._count(table, found.rowcount)

    # --- sessions ---

    def _settle_sessions(self, condition: Any) -> None:
        """Sessions without turns go; those with turns since begin and end with them."""
        for row in self._c.execute(select(_s.session_id, _s.user_id).where(condition)).all():
            mine = and_(_trace.session_id == row.session_id, func.coalesce(_trace.user_id, "") == row.user_id)
            times = select(func.min(_trace.started_at_us), func.max(_trace.started_at_us)).where(mine)
            first, last = self._c.execute(times).one()
            key = and_(_s.session_id == row.session_id, _s.user_id == row.user_id)
            if first is None:
                self._count(tables.session, self._c.execute(delete(tables.session).where(key)).rowcount)
                self._forget_sessions({row.session_id})
            else:
                times_of = {"first_at_us": first, "last_at_us": last}
                self._c.execute(update(tables.session).where(key).values(times_of))

    def _forget_sessions(self, session_ids: set[str]) -> None:
        """Sessions that nobody has any more: their identity in roll-ups, and what was said of them as a whole."""
        gone = session_ids - self._had(tables.session, session_ids) - self._had(tables.trace, session_ids)
        if not gone:
            return
        self._rename("session", gone)
        for table in _CONVERSATION_TABLES:
            if table is not tables.observation and table is not tables.evaluation:
                whole = and_(table.c.session_id.in_(gone), table.c.turn_id.is_(None))
                self._count(table, self._c.execute(delete(table).where(whole)).rowcount)
        digests = (tombstones.conversation_digest(self._digest_key, session_id) for session_id in gone)
        until_us = self._target.until_us
        rows = [tombstones.Row(tombstones.CONVERSATION, digest, until_us) for digest in digests]
        tombstones.add(self._c, rows, now_us=self._now_us, erasure_id=self._erasure_id)

    def _had(self, table: Table, session_ids: set[str]) -> set[str]:
        column = table.c.session_id
        return {row[0] for row in self._c.execute(select(column).where(column.in_(session_ids)).distinct())}

    def _rename(self, dimension: str, values: Iterable[str]) -> None:
        """Roll-ups lose an identity and keep their sums; as deltas, so that the compactor merges them and makes whole
        days of them."""
        wanted = [_r.dimension == dimension, _r.value.in_(list(values))]
        if self._target.until_us is not None:
            wanted.append(_r.at_us <= self._target.until_us)
        self._count(tables.rollup, self._c.execute(delete(tables.rollup).where(*wanted, _r.grain == WHOLE)).rowcount)
        changed = update(tables.rollup).where(*wanted).values(value=ERASED, is_compacted=False)
        self._count(tables.rollup, self._c.execute(changed).rowcount)

    # --- alerts ---

    def _clean_alerts(self) -> None:
        """Alerts keep their rule and value, and lose the person and the turns they name."""
        blank = {"turn_id": None, "user_id": None, "details": None}
        if self._target.user_ids:
            named = update(tables.alert).where(_alert.user_id.in_(self._target.user_ids))
            self._count(tables.alert, self._c.execute(named.values(blank)).rowcount)
        ids = [alert_id for alert_id, turn_ids in self._alerts() if tombstones.find_turns(self._c, turn_ids)]
        if ids:
            self._count(
                tables.alert, self._c.execute(update(tables.alert).where(_alert.id.in_(ids)).values(blank)).rowcount
            )

    def _alerts(self) -> Iterator[tuple[str, set[str]]]:
        """Alerts with the ids of turns they name."""
        last = ""
        while True:
            statement = select(_alert.id, _alert.turn_id, _alert.details).where(_alert.id > last)
            rows = self._c.execute(statement.order_by(_alert.id).limit(_PAGE)).all()
            for row in rows:
                turn_ids = {*_TURN_ID.findall(row.details or ""), *([row.turn_id] if row.turn_id else [])}
                if turn_ids:
                    yield row.id, turn_ids
            if len(rows) < _PAGE:
                return
            last = rows[-1].id

    def _among(self, column: Any, keys: Iterable[Any]) -> ColumnElement[bool]:
        return bulk.among(self._c, column, keys)

    def _count(self, table: Table, number: int) -> None:
        if number:
            self.counts[short(table)] += number
