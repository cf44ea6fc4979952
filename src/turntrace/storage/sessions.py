"""Totals of conversations: every ended turn adds to its session once, and late changes add the difference."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, delete

from turntrace.records.trace import Trace
from turntrace.storage import bulk, clean, tables

_SUMS: Final = (
    "trace_count",
    "error_count",
    "priced_count",
    "input_tokens",
    "output_tokens",
    "cost_total_nano",
    "duration_us",
)
_s = tables.session.c


@dataclass(slots=True)
class _Total:
    environment: str
    first_at_us: int
    last_at_us: int
    sums: list[int] = field(default_factory=lambda: [0] * len(_SUMS))


class SessionTotals:
    """Signed contributions of turns to sessions, by session and user id. Not thread-safe."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], _Total] = {}
        self._left: set[tuple[str, str]] = set()

    def add_trace(self, trace: Trace) -> None:
        """Count an ended turn."""
        if trace.session_id:
            usage = trace.usage
            self._add(
                (trace.session_id, trace.user_id or ""),
                trace.environment,
                trace.started_at_us,
                [
                    1,
                    1 if trace.status == "error" else 0,
                    0 if trace.cost_total_nano is None else 1,
                    (usage.input_tokens if usage else None) or 0,
                    (usage.output_tokens if usage else None) or 0,
                    trace.cost_total_nano or 0,
                    trace.duration_us or 0,
                ],
            )

    def add_row(self, row: Mapping[str, Any], sign: int) -> None:
        """Count an ended turn by its row, or take it back with sign -1."""
        if not row["session_id"]:
            return
        sums = [
            1,
            1 if row["status"] == "error" else 0,
            0 if row["cost_total_nano"] is None else 1,
            row["input_tokens"] or 0,
            row["output_tokens"] or 0,
            row["cost_total_nano"] or 0,
            row["duration_us"] or 0,
        ]
        key = (row["session_id"], row["user_id"] or "")
        if sign < 0:
            self._left.add(key)
        self._add(key, row["environment"], row["started_at_us"], [sign * n for n in sums])

    def _add(self, key: tuple[str, str], environment: str, at_us: int, sums: list[int]) -> None:
        total = self._totals.get(key)
        if total is None:
            self._totals[key] = _Total(environment, at_us, at_us, sums)
            return
        total.first_at_us = min(total.first_at_us, at_us)
        if at_us >= total.last_at_us:
            total.last_at_us, total.environment = at_us, environment
        total.sums = [old + new for old, new in zip(total.sums, sums, strict=True)]

    def store(self, connection: Connection, *, is_cleaned: bool = False) -> None:
        """Add everything to the table; sessions that their last turn left are deleted.

        Args:
            is_cleaned: make rows acceptable first, after the database refused them as they were.
        """
        # In one order everywhere: two workers that take rows in different orders deadlock.
        rows = [_row(key, total) for key, total in sorted(self._totals.items()) if any(total.sums)]
        if is_cleaned:
            rows = [clean.row(tables.session, row) for row in rows]
        if rows:
            connection.execute(_statement(connection.dialect.name), rows)
        if self._left:
            empty = and_(_s.session_id == bindparam("session"), _s.user_id == bindparam("user"), _s.trace_count <= 0)
            keys = [{"session": session_id, "user": user_id} for session_id, user_id in sorted(self._left)]
            connection.execute(delete(tables.session).where(empty), keys)


def _row(key: tuple[str, str], total: _Total) -> dict[str, Any]:
    return {
        "session_id": key[0],
        "user_id": key[1],
        "environment": total.environment,
        "first_at_us": total.first_at_us,
        "last_at_us": total.last_at_us,
        **dict(zip(_SUMS, total.sums, strict=True)),
    }


@cache
def _statement(dialect: str) -> Any:
    def changes(new: Any) -> dict[str, Any]:
        is_latest = new.last_at_us >= _s.last_at_us
        return {
            # MariaDB sets from left to right: what compares with the old times comes first.
            "environment": case((is_latest, new.environment), else_=_s.environment),
            "first_at_us": case((new.first_at_us < _s.first_at_us, new.first_at_us), else_=_s.first_at_us),
            "last_at_us": case((is_latest, new.last_at_us), else_=_s.last_at_us),
            **{name: _s[name] + getattr(new, name) for name in _SUMS},
        }

    return bulk.upsert(dialect, tables.session, changes)
