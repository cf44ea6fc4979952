"""Names in sums that are made anew from rows: those that redaction left, whatever is kept of a turn's texts."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from tests.unit.pipeline.turns import START_US, span, turn
from turntrace.pipeline import UNREDACTED, Modes, Pipeline
from turntrace.pipeline.redact import TraceRedactor
from turntrace.pipeline.redact.analysis import Entity
from turntrace.records.batch import Batch
from turntrace.records.fragment import Fragment, FrameKind
from turntrace.records.window import Window
from turntrace.settings import Settings
from turntrace.storage import recount, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import find_traces
from turntrace.storage.rollups import DAY_US

MAIL = "anna@example.com"
DAY = START_US - START_US % DAY_US
NAMES = ("dimension", "value", "turns", "calls", "errors", "own_us")
OPEN = {"feature": "open", "route": f"/of/{MAIL}", "tags": (f"tenant:{MAIL}", "plain"), "name": f"GET /of/{MAIL}"}


class Mails:
    """An analyser that knows one address."""

    def analyze(self, texts: Sequence[str]) -> Sequence[Sequence[Entity]]:
        return [[Entity(at, at + len(MAIL), "EMAIL")] if (at := text.find(MAIL)) >= 0 else [] for text in texts]


def _pipeline(**chosen: Any) -> Pipeline:
    settings = Settings(allow_unredacted=True, rollup_tags=("tenant",), **chosen)
    redactor = TraceRedactor(Mails(), key=b"k" * 32)
    modes = Modes(settings, lambda text: (text,))
    modes.windows = (Window(id="w", kind="user", value="ann", mode="full", from_us=0, until_us=START_US + DAY_US),)
    return Pipeline(settings, redactor=redactor, modes=modes)


def _store(database: Database, pipeline: Pipeline, *fragments: Fragment) -> None:
    for fragment in fragments:
        write_batch(database, Batch(worked=tuple(pipeline.work([fragment]))), now_us=START_US)


def _step(number: int, **fields: Any) -> Any:
    said = {"type": "tool", "input": f"who is {MAIL}?", "tags": (MAIL,)}
    return span(number, name=f"look up {MAIL}", own=said, **fields)


def _sums(database: Database) -> dict[Any, Any]:
    """What sums by name add up to; those of nothing are left out."""
    r = tables.rollup.c
    found: dict[Any, list[int]] = {}
    with database.read() as c:
        for dimension, value, *numbers in c.execute(select(*(r[name] for name in NAMES)).where(r.grain == "hour")):
            known = found.setdefault((dimension, value), [0] * len(numbers))
            found[dimension, value] = [one + other for one, other in zip(known, numbers, strict=True)]
    return {key: sums for key, sums in found.items() if any(sums)}


def _names(database: Database) -> str:
    """Every name and tag of rows and sums: what stands there is shown to who may see no text."""
    t, o = tables.trace.c, tables.observation.c
    found = (select(tables.rollup), select(t.name, t.route, t.tags), select(o.name, o.tags))
    with database.read() as c:
        return "\n".join(repr(row) for statement in found for row in c.execute(statement))


def _check(database: Database) -> recount.Day:
    with database.read() as c:
        return recount.check(c, DAY)


@pytest.mark.parametrize(
    "chosen",
    [
        {"content_rules": ("feature:open=full",)},
        {"content_rules": ("feature:open=metadata",)},
        {"content": "metadata", "user_id": "ann"},  # in a window of full capture
        {"user_id": "ann"},
    ],
    ids=["rule", "hidden", "window of hidden", "window"],
)
def test_sums_made_anew_name_steps_as_they_did_before(database: Database, chosen: dict[str, Any]) -> None:
    header = OPEN | ({"user_id": chosen["user_id"]} if "user_id" in chosen else {})
    pipeline = _pipeline(**{name: value for name, value in chosen.items() if name != "user_id"})
    _store(database, pipeline, turn(_step(1), _step(2, parent=1), input=f"I am {MAIL}", **header))
    before = _sums(database)
    assert {value for dimension, value in before if dimension in ("step", "route", "tag")} == {
        "tool:look up <EMAIL>", "/of/<EMAIL>", "tenant:<EMAIL>",
    }  # fmt: skip
    assert _check(database).is_equal
    database.transact(recount.rebuild, DAY, ("tenant",))
    assert _sums(database) == before
    assert _check(database).is_equal
    assert MAIL not in _names(database)


def test_a_turn_kept_as_it_is_keeps_its_texts_and_no_raw_name(database: Database) -> None:
    _store(database, _pipeline(), turn(_step(1), input=f"I am {MAIL}", user_id="ann", **OPEN))
    with database.read() as c:
        (found,) = find_traces(c, turn().turn.id)
    assert UNREDACTED in found.flags
    assert (found.input, found.observations[0].input) == (f"I am {MAIL}", f"who is {MAIL}?")
    names = (found.name, found.route, *found.tags, found.observations[0].name, *found.observations[0].tags)
    assert MAIL not in repr(names)
    assert "plain" in names


def test_what_comes_late_to_such_a_turn_takes_back_what_was_counted(database: Database) -> None:
    pipeline, header = _pipeline(), {"user_id": "ann", **OPEN}
    started = turn(_step(1, duration_us=None), kind=FrameKind.START, **header)
    late = turn(_step(2, status="error"), kind=FrameKind.AMEND, user_id="ann", route=f"/at/{MAIL}")
    _store(database, pipeline, started, turn(_step(1), **header), late)
    found = _sums(database)
    assert ("route", "/at/<EMAIL>") in found
    assert ("route", "/of/<EMAIL>") not in found
    assert found["step", "tool:look up <EMAIL>"][1] == 2
    assert MAIL not in _names(database)
    database.transact(recount.rebuild, DAY, ("tenant",))
    assert _sums(database) == found
