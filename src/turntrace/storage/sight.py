"""What one person may see, applied in one place to every statement of theirs, whoever wrote the page.

A table that holds texts of the host's users, or rows of several tenants, is replaced in the statement by a narrowed
selection of itself: texts become NULL, rows of others are not there. What a tenant's rows are is said of every table
by hand; a table that nothing is said of has no rows for a person with a scope.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from sqlalchemy import (
    Alias,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Delete,
    FromClause,
    Insert,
    Select,
    Subquery,
    Table,
    Update,
    and_,
    case,
    cast,
    event,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement, TextClause

from turntrace.errors import Forbidden
from turntrace.storage import tables
from turntrace.storage.database import Database

Condition = ColumnElement[bool]
_FILLS: Final = re.compile(r"INSERT INTO [^()]+\([^()]+\) VALUES \(", re.ASCII)
_NAMED: Final = re.compile(rf"\b{tables.PREFIX}[a-z_]+\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A tenant's share of the turns: those of these environments, features and tags; None does not narrow."""

    environments: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> "Scope | None":
        """The scope that a host's callback names: `environment`, `feature`, `tag`, each one text or several.

        Raises:
            ValueError: it names something else: better nobody is let in than somebody sees too much.
        """
        if given is None:
            return None
        unknown = set(given) - {"environment", "feature", "tag"}
        if unknown or not given:
            raise ValueError("a scope names environment, feature or tag")
        return cls(
            environments=_texts(given.get("environment")),
            features=_texts(given.get("feature")),
            tags=_texts(given.get("tag")),
        )


def _texts(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    found = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(item, str) for item in found):
        raise ValueError("a scope's values are texts")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What statements of one person are narrowed to."""

    with_content: bool = True
    scope: Scope | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to narrow."""
        return not self.with_content or self.scope is not None


# Columns with texts of the host's users, and what stands there for people who see numbers only. A test goes through
# every text column of every table: a new one is named here or there.
_s = tables.score.c
TEXTS: Final[Mapping[Table, Mapping[str, Any]]] = {
    tables.trace: dict.fromkeys(("input_preview", "output_preview", "error_message", "feature_flags"), None),
    tables.observation: dict.fromkeys(("status_message", "error_message"), None),
    tables.score: {"text": case((_s.data_type == "categorical", _s.text)), "comment": None, "details": None},
    tables.comment: {"text": "", "quote": None},
    tables.dataset_item: {"input": "null", "expected": None, "details": None},
    tables.run_item: {"output": None},
    tables.erasure: {"request": None},
}
# Tables that are nothing but content.
CONTENT: Final = frozenset({tables.content, tables.received})
# Tables without turns of anybody: people with a scope see them whole.
COMMON: Final = frozenset(
    [
        tables.fence, tables.audit, tables.setting, tables.price, tables.prompt, tables.prompt_version,
        tables.prompt_label, tables.evaluator, tables.evaluator_version, tables.score_config, tables.annotation_queue,
        tables.dataset, tables.experiment, tables.experiment_run, tables.account, tables.panel_session,
    ]
)  # fmt: skip
_OF_TURN: Final = frozenset(
    [
        tables.observation, tables.content, tables.received, tables.sampled, tables.comment, tables.queue_item,
        tables.dataset_item, tables.run_item, tables.evaluation,
    ]
)  # fmt: skip


def seen_by(database: Database, sight: Sight) -> Database:
    """The database as a person with this sight finds it: every statement of its transactions is narrowed."""
    return database.through(partial(_put_on, sight)) if sight.is_limited else database


def _put_on(sight: Sight, connection: Connection) -> None:
    def narrow(_: Connection, statement: Any, multiparams: Any, params: Any, options: Any) -> tuple[Any, Any, Any]:
        return narrowed(statement, sight), multiparams, params

    def check(_c: Connection, _cursor: Any, statement: str, _p: Any, context: Any, _many: bool) -> None:
        if context is None or context.compiled is None:  # SQL written by hand, which `narrow` is not asked about
            _check_text(statement, sight)

    event.listen(connection, "before_execute", narrow, retval=True)
    event.listen(connection, "before_cursor_execute", check)


def narrowed(statement: Any, sight: Sight) -> Any:
    """The statement with every table replaced by what may be seen of it.

    Raises:
        Forbidden: it is written in a way that cannot be narrowed.
    """
    if not isinstance(statement, ClauseElement):
        return statement  # a sequence, a default: no statement that reads rows
    for element in visitors.iterate(statement):
        if isinstance(element, TextClause):
            _check_text(element.text, sight)
    if isinstance(statement, (Update, Delete)):
        return _narrowed_change(statement, sight)
    return statement if isinstance(statement, Insert) else _replaced(statement, sight)


def _check_text(text: str, sight: Sight) -> None:
    """Text names tables that nobody replaces."""
    if _FILLS.match(text):
        return
    for name in _NAMED.findall(text):
        table = tables.metadata.tables.get(name)
        if (table is None and name != tables.VERSION_TABLE) or (table is not None and _view(table, sight) is not None):
            raise Forbidden("this statement cannot be narrowed to what the person may see")


def _narrowed_change(statement: Any, sight: Sight) -> Any:
    rows = _rows(statement.table, sight.scope) if sight.scope is not None else None
    return statement if rows is None else statement.where(rows)


def _replaced(statement: Any, sight: Sight) -> Any:
    views: dict[int, Subquery] = {}

    def view_of(source: Any) -> Subquery | None:
        """The selection that stands for a table or for an alias of one."""
        table = source.element if isinstance(source, Alias) else source
        if not isinstance(table, Table):
            return None
        if id(source) not in views:
            found = _view(table, sight)
            if found is None:
                return None
            views[id(source)] = found.subquery(source.name)
        return views[id(source)]

    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, (Table, Alias)):
            return view_of(element)
        if isinstance(element, Column) and (view := view_of(element.table)) is not None:
            return view.c[element.key]
        return None

    return visitors.replacement_traverse(statement, {}, replace)


@lru_cache(maxsize=1024)
def _view(table: Table, sight: Sight) -> "Select[Any] | None":
    """What may be seen of a table; None: all of it."""
    rows = _rows(table, sight.scope) if sight.scope is not None else None
    others: Mapping[str, Any] = _of_conversation(sight.scope) if sight.scope and table is tables.session else {}
    if not sight.with_content:
        others = {**others, **TEXTS.get(table, {})}
        rows = false() if table in CONTENT else rows
    if rows is None and not others:
        return None
    found = select(*(_column(column, others) for column in table.c))
    return found if rows is None else found.where(rows)


def _column(column: Column[Any], others: Mapping[str, Any]) -> Any:
    """The column, or what stands in its place."""
    if column.name not in others:
        return column
    value = others[column.name]
    shown = null() if value is None else literal(value) if isinstance(value, str) else value
    return shown.label(column.name)


def _rows(table: Table, scope: Scope) -> Condition | None:
    """The rows of a table within a scope; None: all."""
    if table in COMMON:
        return None
    if table is tables.trace:
        return _of_trace(scope, table.c)
    if table in _OF_TURN:
        return _by_turn(scope, table.c.turn_id)
    if table is tables.session:
        return _by_session(scope, table.c.session_id, table.c.user_id)
    if table is tables.score:
        return or_(
            _by_turn(scope, table.c.turn_id), and_(table.c.turn_id.is_(None), _by_session(scope, table.c.session_id))
        )
    if table is tables.rollup:
        return _of_rollup(scope)
    if table is tables.histogram:
        return _of_histogram(scope)
    return false()


def _of_trace(scope: Scope, columns: Any) -> Condition:
    found: list[Condition] = []
    if scope.environments is not None:
        found.append(columns.environment.in_(scope.environments))
    if scope.features is not None:
        found.append(columns.feature.in_(scope.features))
    if scope.tags is not None:
        found.append(or_(false(), *(_has_tag(columns.tags, tag) for tag in scope.tags)))
    return and_(*found)


def _has_tag(tags: ColumnElement[Any], tag: str) -> Condition:
    """Whether compact JSON has this text. Not by LIKE: SQLite takes letters of either case for the same there."""
    return func.replace(tags, json.dumps(tag, ensure_ascii=False), "") != tags


def _by_turn(scope: Scope, turn_id: ColumnElement[Any]) -> Condition:
    turn = tables.trace.alias("turn_in_scope")
    return exists().where(turn.c.id == turn_id, _of_trace(scope, turn.c))


def _by_session(scope: Scope, session_id: ColumnElement[Any], user_id: ColumnElement[Any] | None = None) -> Condition:
    turn = tables.trace.alias("turn_in_scope")
    return exists().where(*_in_conversation(turn, scope, session_id, user_id))


def _in_conversation(
    turn: FromClause, scope: Scope, session_id: ColumnElement[Any], user_id: ColumnElement[Any] | None
) -> list[Condition]:
    found = [turn.c.session_id == session_id, _of_trace(scope, turn.c)]
    if user_id is not None:
        found.append(or_(turn.c.user_id == user_id, and_(user_id == "", turn.c.user_id.is_(None))))
    return found


def _of_conversation(scope: Scope) -> dict[str, Any]:
    """What is kept of a conversation as a whole, of its turns within the scope: tenants may have named one alike.

    Its last activity stays as it is: conversations are read in the order of it, by its index.
    """
    turn, s = tables.trace.alias("turn_in_scope"), tables.session.c
    whole = select().where(*_in_conversation(turn, scope, s.session_id, s.user_id))
    latest = whole.add_columns(turn.c.environment).order_by(turn.c.started_at_us.desc(), turn.c.id.desc()).limit(1)
    first = whole.add_columns(func.coalesce(func.min(turn.c.started_at_us), s.first_at_us))
    sums = {
        "trace_count": case((turn.c.is_final, 1), else_=0),
        "error_count": case((and_(turn.c.is_final, turn.c.status == "error"), 1), else_=0),
        "priced_count": case((and_(turn.c.is_final, turn.c.cost_total_nano.is_not(None)), 1), else_=0),
        **{
            name: case((turn.c.is_final, turn.c[name]))
            for name in ("input_tokens", "output_tokens", "cost_total_nano", "duration_us")
        },
    }
    found = {
        name: whole.add_columns(cast(func.coalesce(func.sum(value), 0), BigInteger)) for name, value in sums.items()
    }
    return {
        name: statement.correlate(tables.session).scalar_subquery()
        for name, statement in {**found, "first_at_us": first, "environment": latest}.items()
    }


def _of_rollup(scope: Scope) -> Condition:
    """Sums are kept by some dimensions together, not by all: those that cannot tell the scope are left out."""
    r = tables.rollup.c
    found: list[Condition] = []
    if scope.environments is not None:
        found.append(r.environment.in_(scope.environments))
    if scope.features is not None:
        found += [r.dimension == "", r.feature.in_(scope.features)]
    if scope.tags is not None:
        found += [r.dimension == "tag", r.value.in_(scope.tags)]
    return and_(*found)


def _of_histogram(scope: Scope) -> Condition:
    h = tables.histogram.c
    if scope.tags is not None:
        return false()
    found: list[Condition] = []
    if scope.environments is not None:
        found.append(h.environment.in_(scope.environments))
    if scope.features is not None:
        found += [h.metric.in_(("duration", "ttft")), h.feature.in_(scope.features)]
    return and_(*found)
