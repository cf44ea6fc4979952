"""Judgements made again: the same version of an evaluator on what it has judged, to see whether it says the same.

They are claimed, paid and recorded like any other; their verdicts stand beside the score and are none themselves.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select

from turntrace.records.evaluator import Evaluator
from turntrace.storage import bulk, tables

MOST_TARGETS: Final = 200
MOST_TIMES: Final = 9
_DAY_US: Final = 86_400_000_000

_n = tables.evaluation.c
_s = tables.score.c
Value = float | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What was said of one target: the score first, then each time it was asked again, with when that was."""

    score_id: str
    version: int
    first: Value
    first_at_us: int
    again: tuple[tuple[int, Value], ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """All of them, in order."""
        return (self.first, *(value for _, value in self.again))


def ask(connection: Connection, evaluator: Evaluator, *, targets: int, times: int, now_us: int) -> int:
    """Ask for further judgements of the targets that the current version judged last.

    Asking a second time on the same UTC day asks for nothing new. Answers how many judgements are asked for.
    """
    judged = select(tables.evaluation).where(
        _n.evaluator_id == evaluator.id,
        _n.evaluator_version == evaluator.version,
        _n.status == "done",
        _n.repeat_number == 0,
        _n.score_id.is_not(None),
    )
    latest = judged.order_by(_n.created_at_us.desc(), _n.id.desc()).limit(min(targets, MOST_TARGETS))
    found = connection.execute(latest).mappings().all()
    rows = [row for item in found for row in _rows(item, min(times, MOST_TIMES), now_us)]
    if not rows:
        return 0
    return int(connection.execute(bulk.insert_missing(connection.dialect.name, tables.evaluation), rows).rowcount)


def _rows(item: RowMapping, times: int, now_us: int) -> Iterator[dict[str, Any]]:
    same = ("target", "evaluator_id", "evaluator_version", "score_id", "turn_id", "span_id", "session_id", "user_id")
    for number in range(1, times + 1):
        key = f"{item['target_id']}\x1f{now_us // _DAY_US}\x1f{number}"
        yield {
            **{name: item[name] for name in same},
            "target_id": hashlib.sha256(key.encode()).hexdigest(),
            "repeat_number": number,
            "status": "pending",
            "attempt": 0,
            "due_at_us": now_us,
            "reserved_nano": 0,
            "created_at_us": now_us,
        }


def repeated(connection: Connection, evaluator_id: str, *, since_us: int, limit: int = 2000) -> list[Repeated]:
    """What an evaluator said again, by target; the latest first."""
    statement = (
        select(_n.score_id, _n.evaluator_version, _n.verdict, _n.finished_at_us, _s.created_at_us, *_VALUES)
        .join_from(tables.evaluation, tables.score, _s.id == _n.score_id)
        .where(_n.evaluator_id == evaluator_id, _n.created_at_us >= since_us)
        .where(_n.status == "done", _n.repeat_number > 0, _n.verdict.is_not(None))
    )
    rows = connection.execute(statement.order_by(_n.created_at_us.desc(), _n.id).limit(limit)).mappings()
    found: dict[str, list[RowMapping]] = {}
    for row in rows:
        found.setdefault(row["score_id"], []).append(row)
    return [_repeated(score_id, own) for score_id, own in found.items()]


_VALUES: Final = (_s.data_type, _s.number, _s.flag, _s.text)


def _repeated(score_id: str, rows: list[RowMapping]) -> Repeated:
    first = rows[0]
    again = [(int(row["finished_at_us"]), _read(row["verdict"], first["data_type"])) for row in rows]
    return Repeated(
        score_id=score_id,
        version=first["evaluator_version"],
        first=_value(first),
        first_at_us=int(first["created_at_us"]),
        again=tuple(sorted(again, key=lambda item: item[0])),
    )


def _value(row: RowMapping) -> Value:
    if row["data_type"] == "numeric":
        return float(row["number"])
    return bool(row["flag"]) if row["data_type"] == "boolean" else str(row["text"])


def written(value: Value) -> str:
    """A verdict as it is stored."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value[:255] if isinstance(value, str) else repr(value)


def _read(text: str, data_type: str) -> Value:
    if data_type == "boolean":
        return text == "true"
    return float(text) if data_type == "numeric" else text
