"""Score configs: rows by name, and the check of scores against them. `verdict` is there without a row."""

import json
import uuid
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select

from turntrace.errors import InvalidInput, NotFound
from turntrace.records.score import Score
from turntrace.records.scoreconfig import VERDICT, ScoreConfig
from turntrace.storage import bulk, tables

_c = tables.score_config.c


def list_configs(connection: Connection) -> list[ScoreConfig]:
    """All of them by name, the ready one among them."""
    statement = select(tables.score_config).where(_c.is_archived.is_(False)).order_by(_c.name)
    found = [_config(row) for row in connection.execute(statement).mappings()]
    names = {config.name for config in found}
    return sorted([*found, *([] if VERDICT.name in names else [VERDICT])], key=lambda config: config.name)


def put(connection: Connection, config: ScoreConfig, *, now_us: int) -> tuple[ScoreConfig, bool]:
    """Store a config, or replace the one of its name; says whether it is new. Scores given before stay as they are."""
    known = connection.execute(select(_c.id, _c.created_at_us).where(_c.name == config.name)).first()
    stored = replace(
        config,
        id=known.id if known else uuid.uuid4().hex,
        created_at_us=known.created_at_us if known else now_us,
        updated_at_us=now_us,
    )
    names = ("id", "name", "data_type", "minimum", "maximum", "description", "created_at_us", "updated_at_us")
    values: dict[str, Any] = {name: getattr(stored, name) for name in names}
    values |= {"categories": json.dumps(list(stored.categories)) if stored.categories else None, "is_archived": False}
    statement = bulk.upsert(
        connection.dialect.name,
        tables.score_config,
        lambda new: {name: getattr(new, name) for name in values if name not in ("id", "created_at_us")},
    )
    connection.execute(statement, values)
    return stored, known is None


def remove(connection: Connection, name: str) -> None:
    """Forget a config: scores of its name may be anything again.

    Raises:
        NotFound: there is none of this name.
    """
    if connection.execute(delete(tables.score_config).where(_c.name == name)).rowcount != 1:
        raise NotFound("no such score config")


def check(connection: Connection, score: Score) -> None:
    """Nothing for a score that fits the config of its name, or has none. Evaluators answer for their own.

    Raises:
        InvalidInput: it does not fit; the message says what would.
    """
    if score.source == "evaluator":
        return
    statement = select(tables.score_config).where(_c.name == score.name, _c.is_archived.is_(False))
    row = connection.execute(statement).mappings().first()
    if row is not None:
        fit(_config(row), score)


def fit(config: ScoreConfig, score: Score) -> None:
    """Nothing for a score that fits a config.

    Raises:
        InvalidInput: it does not.
    """
    if score.data_type != config.data_type:
        raise InvalidInput(f"data_type: scores named {config.name!r} are {config.data_type}", field="data_type")
    value: Any = score.value
    low, high = config.minimum, config.maximum
    if config.data_type == "numeric" and low is not None and value < low:
        raise InvalidInput(f"value: scores named {config.name!r} are at least {low:g}", field="value")
    if config.data_type == "numeric" and high is not None and value > high:
        raise InvalidInput(f"value: scores named {config.name!r} are at most {high:g}", field="value")
    if config.categories and value not in config.categories:
        known = ", ".join(config.categories)
        raise InvalidInput(f"value: scores named {config.name!r} are one of {known}", field="value")


def _config(row: RowMapping) -> ScoreConfig:
    names = ("id", "name", "data_type", "minimum", "maximum", "description", "created_at_us", "updated_at_us")
    categories = tuple(json.loads(row["categories"])) if row["categories"] else ()
    return ScoreConfig(**{name: row[name] for name in names}, categories=categories)
