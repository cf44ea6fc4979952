"""What an evaluator's rule matches: turns, steps and idle sessions, without those that it has judged already."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from turntrace.records.evaluator import EVALUATION, Candidate
from turntrace.records.filter import TraceFilter
from turntrace.storage import tables
from turntrace.storage.queries.condition import has_json_string, on_observations, on_traces

_t = tables.trace.c
_o = tables.observation.c
_s = tables.session.c
_n = tables.evaluation.c

Place = tuple[int, str]  # where a walk stands: an instant and an id


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is matched: `target` with `filter`, for a version of an evaluator.

    `max_depth`: judges' own runs are matched up to this causality depth; 0: never. `idle_us` is of sessions.
    """

    evaluator_id: str
    version: int
    target: str
    filter: TraceFilter
    max_depth: int = 0
    idle_us: int = 0


@dataclass(frozen=True, slots=True)
class Matches:
    """A page of candidates and where the next one begins (None: there is none)."""

    items: Sequence[Candidate]
    next: Place | None


def own_tag(evaluator_id: str) -> str:
    """The tag that runs of this evaluator carry: it never judges itself."""
    return f"evaluator:{evaluator_id}"


def stored(c: Connection, rule: Rule, *, since: Place, until_us: int, limit: int) -> Matches:
    """Turns and steps stored after `since`, and up to `until_us`, oldest first."""
    at, key = _t.updated_at_us, _key(rule)
    after = or_(at > since[0], and_(at == since[0], key > since[1]))
    conditions = [at >= since[0], after, at <= until_us, *_conditions(rule, is_new=True)]
    return _page(c, rule, conditions, (at, key), limit, at)


def started(c: Connection, rule: Rule, *, from_us: int, before: Place, limit: int, is_new: bool = True) -> Matches:
    """Turns and steps that started from `from_us` on and before a place, newest first: history."""
    at, key = _t.started_at_us, _key(rule)
    earlier = or_(at < before[0], and_(at == before[0], key < before[1]))
    conditions = [at >= from_us, at <= before[0], earlier, *_conditions(rule, is_new=is_new)]
    return _page(c, rule, conditions, (at.desc(), key.desc()), limit, at)


def idle(c: Connection, rule: Rule, *, since: Place, until_us: int, limit: int) -> Matches:
    """Sessions whose last turn was after `since` and is `idle_us` ago by `until_us`, oldest first."""
    at, key = _s.last_at_us, _s.session_id + _s.user_id
    found: list[Any] = [at >= since[0], or_(at > since[0], key > since[1]), at <= until_us - rule.idle_us]
    names = ("session_id", "user_id", "environment")
    found += [_s[name] == getattr(rule.filter, name) for name in names if getattr(rule.filter, name) is not None]
    if rule.max_depth == 0:
        found.append(_s.environment != EVALUATION)
    rows = c.execute(select(tables.session).where(*found).order_by(at, key).limit(limit)).mappings().all()
    items = [session_candidate(row["session_id"], row["user_id"], row["last_at_us"]) for row in rows]
    known = _judged(c, rule, [item.target_id for item in items])
    last = rows[-1] if len(rows) == limit else None
    place = (last["last_at_us"], last["session_id"] + last["user_id"]) if last is not None else None
    return Matches([item for item in items if item.target_id not in known], place)


def session_candidate(session_id: str, user_id: str, last_at_us: int) -> Candidate:
    """A session as it stood idle since an instant: one that goes on becomes another target."""
    digest = hashlib.sha256(f"{session_id}\x1f{user_id}\x1f{last_at_us}".encode("utf-8", "surrogatepass")).hexdigest()
    return Candidate(
        target="session",
        target_id=digest,
        session_id=session_id,
        user_id=user_id or None,
        stored_at_us=last_at_us,
    )


def _key(rule: Rule) -> ColumnElement[str]:
    return _o.turn_id + _o.span_id if rule.target == "observation" else _t.id


def _conditions(rule: Rule, *, is_new: bool) -> list[Any]:
    by_filter = on_observations(rule.filter) if rule.target == "observation" else on_traces(rule.filter)
    found: list[Any] = [_t.is_final, *by_filter]
    if rule.max_depth == 0:
        found.append(_t.environment != EVALUATION)
    found.append(_t.depth <= rule.max_depth)
    found.append(or_(_t.tags.is_(None), ~has_json_string(_t.tags, own_tag(rule.evaluator_id))))
    if is_new:
        same = (_n.evaluator_id == rule.evaluator_id, _n.evaluator_version == rule.version)
        found.append(~exists().where(_n.target_id == _key(rule), *same))
    return found


def _page(c: Connection, rule: Rule, conditions: list[Any], order: Any, limit: int, at: Any) -> Matches:
    columns: list[Any] = [_t.id, _t.session_id, _t.user_id, _t.updated_at_us, at.label("at_us")]
    statement = select(*columns)
    if rule.target == "observation":
        statement = select(*columns, _o.span_id.label("its_span")).join_from(
            tables.observation, tables.trace, _t.id == _o.turn_id
        )
    rows = c.execute(statement.where(*conditions).order_by(*order).limit(limit)).mappings().all()
    items = [_candidate(rule.target, row) for row in rows]
    return Matches(items, (rows[-1]["at_us"], items[-1].target_id) if len(rows) == limit else None)


def _candidate(target: str, row: Any) -> Candidate:
    span_id = row["its_span"] if target == "observation" else None
    return Candidate(
        target=target,
        target_id=row["id"] + (span_id or ""),
        turn_id=row["id"],
        span_id=span_id,
        session_id=row["session_id"],
        user_id=row["user_id"],
        stored_at_us=row["updated_at_us"],
    )


def _judged(c: Connection, rule: Rule, target_ids: Sequence[str]) -> set[str]:
    same = (_n.evaluator_id == rule.evaluator_id, _n.evaluator_version == rule.version)
    found = select(_n.target_id).where(_n.target_id.in_(target_ids), *same)
    return set(c.execute(found).scalars()) if target_ids else set()


MOST_TURNS: Final = 50  # of one session that are judged: the last ones
