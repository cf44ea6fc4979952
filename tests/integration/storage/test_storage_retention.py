"""Retention: texts and turns past their time go, in their order, and nothing else does."""

import gzip
import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stored as s
from sqlalchemy import event, insert, text

from turntrace.jobs import archive, retain
from turntrace.records.erasure import Target
from turntrace.records.observation import ErrorInfo
from turntrace.records.retention import parsed
from turntrace.records.score import Score
from turntrace.storage import belonging, meter, retention, rollups, tables
from turntrace.storage.database import Database
from turntrace.storage.queries import traces

DAY = retention.DAY_US
NOW = s.T0 + 500 * DAY
ANNA = Target(kind="subject", user_ids=("anna",))
DEFAULT = parsed("content=30,numbers=400")
NO_TEXTS = {"input": None, "output": None, "parameters": {}, "prompt": None, "tool_calls": (), "metadata": {}}
_OF_PEOPLE = ("user", "session", "tag")


def aged(number: int, days: float, **changes: Any) -> Any:
    """A turn of so many days ago."""
    found = s.trace(number, session_id=f"s{number}", **changes)
    began = NOW - int(days * DAY)
    steps = tuple(replace(step, started_at_us=began) for step in found.observations)
    return replace(found, started_at_us=began, observations=steps)


def run(database: Database, rules: Any = DEFAULT, **options: Any) -> Counter[str]:
    return Counter(retain.retain(database, rules=rules, wall=lambda: NOW, **options))


def ids(database: Database, name: str, column: str = "turn_id") -> list[str]:
    return [row[column] for row in s.rows(database, name)]


def test_every_table_has_a_rule_of_retention_or_a_reason_to_have_none() -> None:
    ruled = {"trace", *(belonging.short(table) for table in retention.GOING), *(r.name for r in retention.aged(NOW))}
    every = {belonging.short(table) for table in tables.metadata.sorted_tables}
    assert ruled & set(retention.LEFT_ALONE) == set()
    assert ruled | set(retention.LEFT_ALONE) == every
    assert all(len(reason) > 10 for reason in retention.LEFT_ALONE.values())


def test_what_was_made_of_sessions_goes_by_its_own_age(database: Database) -> None:
    s.write(database, s.end(aged(1, 401)), s.end(aged(2, 20)))
    made = {"target": "session", "evaluator_id": "e", "evaluator_version": 1, "status": "done", "attempt": 1}
    comment = {"text": "hm", "author": "eve", "session_id": "s9"}
    review = {"queue_id": "q", "status": "done"}
    walk = {"evaluator_id": "e", "evaluator_version": 1, "from_us": 1, "to_us": 2, "planned": 0}
    with database.write() as c:
        for number, days in ((1, 401), (2, 399)):
            at_us = NOW - days * DAY
            row = {**made, "target_id": f"{number}", "due_at_us": at_us, "reserved_nano": 0, "created_at_us": at_us}
            c.execute(insert(tables.evaluation).values(row))
            c.execute(insert(tables.comment).values(id=f"{number}", **comment, created_at_us=at_us, updated_at_us=1))
            c.execute(
                insert(tables.queue_item).values(id=f"{number}", target_id=f"t{number}", **review, created_at_us=at_us)
            )
            for status in ("done", "running"):
                finished = at_us if status == "done" else None
                c.execute(insert(tables.backfill).values(id=f"{status}{number}", **walk, status=status,
                          created_at_us=at_us, updated_at_us=at_us, finished_at_us=finished))  # fmt: skip
    done = run(database)
    assert {name: done[name] for name in ("evaluation", "comment", "queue_item", "backfill")} == {
        "evaluation": 1, "comment": 1, "queue_item": 1, "backfill": 1
    }  # fmt: skip
    assert ids(database, "evaluation", "target_id") == ids(database, "comment", "id") == ["2"]
    assert ids(database, "queue_item", "id") == ["2"]
    assert sorted(ids(database, "backfill", "id")) == ["done2", "running1", "running2"]


def test_texts_go_after_a_month_and_turns_after_400_days(database: Database) -> None:
    old, middle, young = aged(1, 401), aged(2, 31), aged(3, 29)
    s.write(database, *(s.end(turn) for turn in (old, middle, young)))
    fields = {"name": "n", "data_type": "text", "source": "user", "value": "good", "comment": "hm", "created_at_us": 1}
    s.write(database, scores=tuple(Score(id=f"x{n}", turn_id=s.turn_id(n), **fields) for n in (1, 2, 3)))
    remark = {"text": "hm", "author": "eve", "quote": "my kettle", "created_at_us": NOW, "updated_at_us": 1}
    with database.write() as c:
        for n in (2, 3):
            c.execute(insert(tables.comment).values(id=f"{n}", turn_id=s.turn_id(n), **remark))
    before = s.summed(database)
    # Twice for the oldest: its texts would go for two reasons.
    assert retain.rehearse(database, rules=DEFAULT, wall=lambda: NOW) == {"trace": 1, "content": 2}
    done = run(database)
    assert sorted(ids(database, "trace", "id")) == [s.turn_id(2), s.turn_id(3)]
    assert ids(database, "content") == [s.turn_id(3)]
    assert {row["turn_id"]: (row["comment"], row["text"]) for row in s.rows(database, "score")} == {
        s.turn_id(2): (None, None),
        s.turn_id(3): ("hm", "good"),
    }
    assert {row["id"]: row["quote"] for row in s.rows(database, "comment")} == {"2": None, "3": "my kettle"}
    previews = {row["id"]: row["input_preview"] for row in s.rows(database, "trace")}
    assert previews == {s.turn_id(2): None, s.turn_id(3): "Where is my kettle?"}
    assert (done["trace"], done["content"], done["observation"], done["left"]) == (1, 2, 2, 0)
    with database.read() as connection:
        (left,) = traces.find_traces(connection, s.turn_id(2))
    assert left.cost_total_nano == middle.cost_total_nano
    assert left.usage is not None
    assert sum(sums[0] for key, sums in s.summed(database).items() if key[2] == "user") == 2
    assert len(s.summed(database)) < len(before)
    assert set(ids(database, "session", "session_id")) == {"s2", "s3"}
    assert run(database) == {"left": 0}


def test_texts_go_from_turns_that_have_no_content_too(database: Database) -> None:
    bare = {"input": None, "output": None, "input_preview": None, "output_preview": None, "metadata": {}}
    failed = s.generation(4, 1, status="error", error=ErrorInfo(type="E", message="no kettle"), **NO_TEXTS)
    steps: dict[int, Any] = {n: () for n in (1, 2, 3, 5)} | {4: (failed,)}
    s.write(database, *(s.end(aged(n, 31, observations=found, **bare)) for n, found in steps.items()))
    assert ids(database, "content") == []
    fields = {"name": "n", "source": "user", "created_at_us": 1}
    opinion = Score(id="x1", turn_id=s.turn_id(1), data_type="boolean", value=True, comment="I am ill", **fields)
    reason = Score(id="x2", turn_id=s.turn_id(2), data_type="text", value="I am ill", metadata={"a": "b"}, **fields)
    fields |= {"created_at_us": NOW - DAY, "data_type": "boolean", "value": True}
    young = Score(id="x5", turn_id=s.turn_id(5), comment="hm", **fields)
    s.write(database, scores=(opinion, reason, young))
    remark = {"text": "hm", "author": "eve", "quote": "my kettle", "created_at_us": 1, "updated_at_us": 1}
    with database.write() as c:
        c.execute(insert(tables.comment).values(id="3", turn_id=s.turn_id(3), **remark))
    assert retain.rehearse(database, rules=DEFAULT, wall=lambda: NOW) == {"content": 4}
    run(database)
    said = {row["id"]: (row["comment"], row["text"], row["details"]) for row in s.rows(database, "score")}
    assert said == {"x1": (None, None, None), "x2": (None, None, None), "x5": ("hm", None, None)}
    assert [row["quote"] for row in s.rows(database, "comment")] == [None]
    assert [row["error_message"] for row in s.rows(database, "observation")] == [None]
    assert retain.rehearse(database, rules=DEFAULT, wall=lambda: NOW) == {}


def test_rules_by_environment_and_flag(database: Database) -> None:
    rules = parsed("content=30,content@staging=5,content+error=60,content+annotated=90,content+pinned=120")
    turns = {
        1: aged(1, 10, environment="staging"),
        2: aged(2, 10),
        3: aged(3, 50, status="error"),
        4: aged(4, 70, status="error"),
        5: aged(5, 70),
        6: aged(6, 110, tags=("pinned",)),
        7: aged(7, 130, tags=("pinned",)),
        8: aged(8, 10, environment="staging", status="error"),
        9: aged(9, 95),
    }
    s.write(database, *(s.end(turn) for turn in turns.values()))
    human = {"name": "n", "data_type": "boolean", "source": "human", "value": True, "created_at_us": 1}
    s.write(database, scores=tuple(Score(id=f"x{n}", turn_id=s.turn_id(n), **human) for n in (5, 9)))
    run(database, rules)
    assert sorted(ids(database, "content")) == [s.turn_id(n) for n in (2, 3, 5, 6, 8)]
    assert len(s.rows(database, "trace")) == 9


def test_roll_ups_and_histograms_go_with_their_time(database: Database) -> None:
    s.write(database, s.end(aged(1, 401)), s.end(aged(2, 3)))
    rollups.compact(database)
    run(database)
    days = {key[1] for key in s.summed(database) if key[0] != "minute"}
    assert min(days) >= NOW - 401 * DAY
    assert {key[1] for key in s.histogram(database)} <= days


def test_a_run_that_was_too_short_is_gone_on_with(database: Database) -> None:
    s.write(database, *(s.end(aged(n, 31)) for n in range(1, 60)))
    first = run(database, seconds=0)
    assert first["left"] == 1
    total = Counter(first)
    while total["left"]:
        total["left"] = 0
        total.update(run(database, seconds=0.05))
    assert total["content"] == 59
    assert s.rows(database, "content") == []


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_the_next_portion_is_read_along_the_index_whatever_statistics_say(database: Database) -> None:
    s.write(database, *(s.end(aged(number, 500)) for number in range(30)))
    with database.write() as c:
        c.execute(text("ANALYZE turntrace_trace"))  # a table of one page: to sort it looks cheaper
    walk = next(retain.plan(DEFAULT))
    plans: list[str] = []

    def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith("SELECT turntrace_trace"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.extend(row[0] for row in cursor)

    event.listen(database.engine, "before_cursor_execute", explain)
    with database.read() as connection:
        retention.look(connection, walk, retention.BEGIN, NOW, 200)
    assert "ix_turntrace_trace_started" in "".join(plans)
    assert not [line for line in plans if "Sort" in line]


def test_turns_are_archived_before_they_go(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "archive"
    s.write(database, s.end(aged(1, 401)), s.end(aged(2, 31)), s.end(aged(3, 1)))
    done = run(database, archive_dir=str(home))
    assert done["archived"] == 2
    (texts, whole) = archive.Archive(home).files()
    assert [path.name.split("-")[0] for path in (whole, texts)] == ["numbers", "content"]
    (line,) = [json.loads(line) for line in texts.read_bytes().splitlines()]
    assert line["trace"]["input"] == "Where is my kettle?"
    assert line["trace"]["observations"][1]["documents"][0]["content"] == "Kettles ship in two days."
    assert texts.stat().st_mode & 0o077 == 0


def test_an_archive_survives_a_torn_line_is_packed_and_forgets(tmp_path: Path) -> None:
    kept = archive.Archive(tmp_path)
    first, second = aged(1, 1), aged(2, 1, user_id="bob")
    kept.write("content", [first], at_us=NOW)
    (path,) = kept.files()
    with path.open("ab") as stream:
        stream.write(b'{"record":"trace","trace":{"id":"half')
    kept.write("content", [replace(second, observations=())], at_us=NOW)
    assert [json.loads(line)["trace"]["user_id"] for line in path.read_bytes().splitlines()] == ["anna", "bob"]
    kept.pack(at_us=NOW + DAY)
    (packed,) = kept.files()
    assert packed.name.endswith(".jsonl.gz")
    assert kept.forget(ANNA) == 1
    assert kept.forget(ANNA) == 0
    with gzip.open(packed) as lines:
        assert [json.loads(line)["trace"]["user_id"] for line in lines] == ["bob"]
    assert kept.forget(Target(kind="turn", turn_ids=(second.id,))) == 1


def test_an_archive_loses_nothing_to_an_erasure_at_the_same_time(tmp_path: Path) -> None:
    written, number = aged(2, 1, user_id="bob", observations=()), 300

    def write() -> None:
        for n in range(number):
            archive.Archive(tmp_path).write("content", [replace(written, name=str(n))], at_us=NOW)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        mine = archive.Archive(tmp_path)
        mine.write("content", [aged(1, 1)], at_us=NOW)
        mine.forget(ANNA)
    (path,) = archive.Archive(tmp_path).files()
    names = [json.loads(line)["trace"]["name"] for line in path.read_bytes().splitlines()]
    assert names == [str(n) for n in range(number)]


_KILLED = """
import sys
from turntrace.jobs import retain
from turntrace.records.retention import parsed
from turntrace.storage.database import Database
database = Database(sys.argv[1])
retain.retain(database, rules=parsed("content=30,numbers=400"), wall=lambda: int(sys.argv[2]), archive_dir=sys.argv[3])
"""


def test_retention_that_is_killed_twice_loses_and_leaves_nothing(database: Database, tmp_path: Path) -> None:
    number = 400
    s.write(database, *(s.end(aged(n, 401 if n % 2 else 31)) for n in range(1, number + 1)))
    url = database.url.render_as_string(hide_password=False)
    words = [sys.executable, "-c", _KILLED, url, str(NOW), str(tmp_path / "archive")]
    for where in ("retain.before_delete=kill@2", "retain.after_delete=kill@2"):
        killed = subprocess.run(words, env={"TURNTRACE_FAIL_POINTS": where}, timeout=60, check=False)
        assert killed.returncode == -9
    subprocess.run(words, env={}, timeout=60, check=True)
    assert len(s.rows(database, "trace")) == number // 2
    assert s.rows(database, "content") == []
    lines = [line for path in archive.Archive(tmp_path / "archive").files() for line in path.read_bytes().splitlines()]
    assert {json.loads(line)["trace"]["id"] for line in lines} == {s.turn_id(n) for n in range(1, number + 1)}


def test_the_meter_tells_growth(database: Database) -> None:
    with database.write() as connection:
        meter.note(connection, now_us=NOW)
        meter.note(connection, now_us=NOW + 1)
    with database.read() as connection:
        found = meter.read(connection, limit_bytes=1 << 30)
    assert len(found.samples) == 1
    assert found.used_bytes is not None
    assert found.used_bytes > 0
    assert found.growth_bytes_a_day is None
    assert meter.growth([(0, 100), (DAY, 200), (2 * DAY, 300)]) == 100
    assert meter.Meter(used_bytes=500, limit_bytes=1000, growth_bytes_a_day=50).full_in_days == 10
    assert meter.Meter(used_bytes=500, limit_bytes=0, growth_bytes_a_day=50).in_days(2) == 600


def test_sums_that_name_nobody_outlive_their_turns(database: Database) -> None:
    s.write(database, s.end(aged(1, 401)), s.end(aged(2, 3)))
    before = s.summed(database)
    run(database, parsed("content=30,numbers=400,sums=1100"))
    assert ids(database, "trace", "id") == [s.turn_id(2)]
    kept = {key: sums for key, sums in before.items() if key[2] not in _OF_PEOPLE}
    after = s.summed(database)
    assert {key: sums for key, sums in after.items() if key[2] not in _OF_PEOPLE} == kept
    assert sum(sums[0] for key, sums in after.items() if key[2] == "user") == 1
    run(database, parsed("content=30,numbers=400,sums=401"))
    assert {key for key, _ in after.items()} > set(s.summed(database))
