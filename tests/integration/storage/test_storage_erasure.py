"""An erased person's rows go, all of them, and nothing of them comes back."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stored as s
from sqlalchemy import create_engine, insert

from turntrace import failpoint
from turntrace.errors import NotFound
from turntrace.jobs import archive
from turntrace.jobs import erase as job
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Receipt, Target
from turntrace.records.score import Score
from turntrace.storage import audit, belonging, receipts, rollups, tables, tombstones
from turntrace.storage.database import Database
from turntrace.storage.erasure import Eraser
from turntrace.storage.queries import subject
from turntrace.storage.queries.costs import costs

KEYS = KeyRing([b"k" * 32], is_explicit=True)
ANNA = Target(kind="subject", user_ids=("anna",))


def of(turn: int, user: str | None, **changes: Any) -> Any:
    steps = (s.generation(turn, 1, user_id=user), s.retrieval(turn, 2, user_id=user))
    return s.trace(turn, user_id=user, observations=steps, **changes)


def erase(database: Database, target: Target = ANNA, **options: Any) -> Receipt:
    return job.erase_at_once(database, target, KEYS, actor="test", **options)


def score(number: int, **fields: Any) -> Score:
    values = {"name": "thumbs", "value": True, "data_type": "boolean", "source": "user", "created_at_us": s.NOW}
    return Score(id=f"score-{number}", **{**values, **fields})


def put(database: Database, name: str, *rows: dict[str, Any]) -> None:
    with database.write() as connection:
        for row in rows:
            connection.execute(insert(tables.metadata.tables[tables.PREFIX + name]).values(row))


def derive(database: Database) -> None:
    """Everything people and jobs make of turn 1, which is Anna's, and of turn 2, which is Bob's."""
    at = {"created_at_us": s.T0, "updated_at_us": s.T0}
    put(database, "dataset", {"id": "d", "name": "d", "version": 1, **at})
    for n, user in ((1, "anna"), (2, "bob")):
        target: dict[str, Any] = {"turn_id": s.turn_id(n), "user_id": user}
        put(database, "comment", {"id": f"c{n}", "text": "hm", "author": "eve", **target, **at})
        item = {"queue_id": "q", "target_id": s.turn_id(n), "status": "pending", "created_at_us": s.T0}
        put(database, "queue_item", {"id": f"q{n}", **item, **target})
        item = {"dataset_id": "d", "item_key": f"i{n}", "input": "{}", "from_version": 1, **at}
        put(database, "dataset_item", {"id": f"i{n}", **item, **target})
        put(database, "dataset_item", {"id": f"later{n}", **{**item, "input": '"edited"'}})
        run = {"run_id": "r", "item_id": f"i{n}", "repetition": 1, "is_cached": False, "created_at_us": s.T0}
        put(database, "run_item", {"id": f"r{n}", "turn_id": s.turn_id(10 + n), **run})
        evaluation = {"target": "trace", "target_id": s.turn_id(n), "evaluator_id": "e", "evaluator_version": 1}
        evaluation |= {"status": "done", "attempt": 1, "due_at_us": s.T0, "reserved_nano": 0, "created_at_us": s.T0}
        put(database, "evaluation", {**evaluation, "judge_turn_id": s.turn_id(20 + n), **target})
        put(database, "alert", {"id": f"a{n}", "rule_id": "x", "status": "open", "opened_at_us": s.T0, **target})
        view = {"page": "traces", "name": user, "query": f"user_id={user}&status=error", "is_shared": True}
        put(database, "saved_view", {"id": f"v{n}", "created_at_us": s.T0, **view})


@pytest.fixture
def filled(database: Database) -> Database:
    """Turns of Anna (1) and Bob (2), of experiments (11, 12) and judges (21, 22) made from them."""
    s.write(database, s.end(of(1, "anna", session_id="s1")), s.end(of(2, "bob", session_id="s2")))
    for n in (11, 12, 21, 22):
        s.write(database, s.end(of(n, None, session_id=None, environment="turntrace-evaluation")))
    s.write(
        database,
        scores=(
            score(1, turn_id=s.turn_id(1), comment="anna was here"),
            score(2, turn_id=s.turn_id(2)),
            score(3, session_id="s1", user_id="anna"),
            score(4, session_id="s1"),
            score(5, session_id="s2", user_id="bob"),
        ),
    )
    derive(database)
    return database


def test_every_row_of_a_person_goes_and_those_of_others_stay(filled: Database) -> None:
    receipt = erase(filled)
    assert receipt.is_finished
    assert receipt.status == "done"
    for name in ("comment", "queue_item", "dataset_item", "evaluation", "saved_view", "session"):
        assert "anna" not in repr(s.rows(filled, name)), name
    assert [row["id"] for row in s.rows(filled, "trace")] == [s.turn_id(n) for n in (2, 12, 22)]
    assert {row["turn_id"] for row in s.rows(filled, "content")} == {s.turn_id(n) for n in (2, 12, 22)}
    assert {row["id"] for row in s.rows(filled, "score")} == {"score-2", "score-5"}
    assert {row["id"] for row in s.rows(filled, "dataset_item")} == {"i2", "later2"}
    assert {row["id"] for row in s.rows(filled, "run_item")} == {"r2"}
    assert {row["session_id"] for row in s.rows(filled, "session")} == {"s2"}
    assert [(row["turn_id"], row["user_id"]) for row in s.rows(filled, "alert")] == [
        (None, None),
        (s.turn_id(2), "bob"),
    ]
    assert receipt.counts["trace"] == 3
    assert receipt.counts["observation"] == 6
    assert receipt.counts["score"] == 3


def define(database: Database) -> None:
    """What names Anna, Bob or their sessions in its text only."""
    at = {"created_at_us": s.T0, "updated_at_us": s.T0}
    budget = {"scope": "user", "period": "day", "limit_nano": 1, "action": "observe", "is_enabled": True, **at}
    work = {"questions": [], "reviewers": 1, "assignees": [], "daily": 9}
    for n, user in ((1, "anna"), (2, "bob"), (3, "annabel")):
        put(database, "spending_rule", {"id": f"b{n}", "name": f"b{n}", "value": user, **budget})
        for key, narrowed in (("u", {"user_id": user}), ("s", {"session_id": f"s{n}"})):
            text = json.dumps({**work, "filter": {**narrowed, "status": "error"}})
            row = {"id": f"{key}{n}", "name": f"{key}{n}", **at}
            put(database, "annotation_queue", {**row, "definition": text, "is_archived": False})
            evaluator = {"kind": "check", "is_enabled": True, "version": 2, "watermark_us": s.T0, **at}
            put(database, "evaluator", {**row, **evaluator})
            for version in (1, 2):
                made = {"evaluator_id": f"{key}{n}", "version": version, "created_at_us": s.T0}
                put(database, "evaluator_version", {**made, "definition": text})
            (query,) = (f"{name}={value}&status=ok" for name, value in narrowed.items())
            view = {"page": "traces", "name": "mine", "query": query, "is_shared": True, "created_at_us": s.T0}
            put(database, "saved_view", {"id": f"{key}{n}", **view})


def texts(database: Database) -> str:
    names = ("spending_rule", "annotation_queue", "evaluator_version", "saved_view")
    return repr([s.rows(database, name) for name in names])


def on(database: Database) -> tuple[set[str], set[str]]:
    """Queues and evaluators that are not switched off."""
    queues = {row["id"] for row in s.rows(database, "annotation_queue") if not row["is_archived"]}
    return queues, {row["id"] for row in s.rows(database, "evaluator") if row["is_enabled"]}


def test_what_names_a_person_in_its_text_goes_or_is_switched_off(filled: Database) -> None:
    define(filled)
    with filled.read() as connection:
        rehearsed = belonging.count(connection, replace(ANNA, until_us=job.now_us()))
    receipt = erase(filled)
    assert receipt.is_finished
    left = texts(filled).replace("annabel", "")
    assert "anna" not in left
    assert "s1" not in left.replace("'s1'", "")  # the id of a row
    assert {row["id"] for row in s.rows(filled, "spending_rule")} == {"b2", "b3"}
    assert {row["id"] for row in s.rows(filled, "saved_view")} == {"u2", "u3", "s2", "s3", "v2"}
    assert on(filled) == ({"u2", "u3", "s2", "s3"}, {"u2", "u3", "s2", "s3"})
    (queue,) = (row for row in s.rows(filled, "annotation_queue") if row["id"] == "u1")
    assert json.loads(queue["definition"])["filter"] == {"status": "error"}
    wanted = {"spending_rule": 1, "annotation_queue": 2, "evaluator_version": 4, "saved_view": 3}
    assert {name: receipt.counts[name] for name in wanted} == wanted
    assert {name: rehearsed[name] for name in wanted} == wanted


def test_what_names_a_session_goes_with_its_last_owner(filled: Database) -> None:
    define(filled)
    s.write(filled, s.end(of(4, "carl", session_id="s2")))
    assert erase(filled, Target(kind="session", sessions=(("s2", "bob"),))).is_finished
    assert on(filled)[0] == {"u1", "u2", "u3", "s1", "s2", "s3"}  # it is Carl's, too
    receipt = erase(filled, Target(kind="session", sessions=(("s2", "carl"),)))
    assert receipt.is_finished
    assert receipt.counts["annotation_queue"] == receipt.counts["saved_view"] == 1
    assert on(filled) == ({"u1", "u2", "u3", "s1", "s3"}, {"u1", "u2", "u3", "s1", "s3"})


def test_verification_finds_what_still_names_somebody(filled: Database) -> None:
    receipt = erase(filled)
    define(filled)
    with filled.read() as connection:
        left = belonging.remaining(connection, ANNA, str(receipt.id))
    assert left == {"annotation_queue": 2, "evaluator_version": 4, "saved_view": 2, "spending_rule": 1}


def test_totals_stay_and_identities_become_erased(filled: Database) -> None:
    before = s.summed(filled)
    erase(filled)
    after = s.summed(filled)
    assert {key for key in after if key[2] == ""} == {key for key in before if key[2] == ""}
    assert {key[3] for key in after if key[2] == "user"} == {"erased", "bob"}
    assert {key[3] for key in after if key[2] == "session"} == {"erased", "s2"}
    assert sorted(before.values()) == sorted(after.values())
    assert s.histogram(filled)
    rollups.compact(filled)
    assert {key[3] for key in s.summed(filled) if key[2] == "user"} == {"erased", "bob"}


def test_whole_days_of_an_erased_person_go_and_are_summed_under_no_name(filled: Database) -> None:
    rollups.compact(filled)
    before = _whole(filled)
    assert {key[1] for key in before} == {"anna", "bob", "s1", "s2"}
    erase(filled)
    assert {key[1] for key in _whole(filled)} == {"bob", "s2"}
    with filled.read() as c:
        assert {row.keys["user"]: row.turns for row in costs(c, group_by=("user",))} == {"erased": 1, "bob": 1}
    rollups.compact(filled)
    names = {"anna": "erased", "s1": "erased"}
    assert _whole(filled) == {(of, names.get(name, name), *key): n for (of, name, *key), n in before.items()}


def test_a_session_that_sampling_left_sums_of_alone_can_be_erased(database: Database) -> None:
    s.write(database, s.end(of(1, "anna", session_id="s1"), is_kept=False), s.end(of(2, "bob", session_id="s2")))
    rollups.compact(database)
    erase(database)
    with database.read() as c:
        target = subject.session_target(c, "s1")
        with pytest.raises(NotFound):
            subject.session_target(c, "s3")
    assert erase(database, target).is_finished
    assert {key[3] for key in s.summed(database) if key[2] == "session"} == {"erased", "s2"}
    with database.read() as c, pytest.raises(NotFound):
        subject.session_target(c, "s1")


def _whole(database: Database) -> dict[tuple[Any, ...], tuple[int, ...]]:
    return {(*key[2:4], key[1], key[7]): sums for key, sums in s.summed(database).items() if key[0] == "whole"}


def test_the_balance_counts_erased_turns(filled: Database) -> None:
    assert s.loss(filled) == {"stored": 6}
    erase(filled)
    assert s.loss(filled) == {"stored": 3, "erased": 3}


def test_a_receipt_is_signed_and_names_nobody(filled: Database) -> None:
    receipt = erase(filled)
    document = receipt.document()
    assert document["verification"]["remaining"] == {}
    assert document["verification"]["physical"] == ("done" if filled.dialect == "sqlite" else "server")
    assert receipts.is_valid(document, KEYS)
    assert not receipts.is_valid({**document, "counts": {}}, KEYS)
    assert not receipts.is_valid(document, KeyRing([b"x" * 32], is_explicit=True))
    assert "anna" not in repr(document)
    assert "anna" not in repr(s.rows(filled, "erasure"))
    with filled.read() as connection:
        assert receipts.get(connection, document["id"]) == receipt
        (entry,) = audit.list_entries(connection)
        assert entry.action == "subject.erase"
        assert entry.actor == "test"
        assert "anna" not in repr(entry)


def test_late_and_repeated_data_of_an_erased_person_are_refused(filled: Database) -> None:
    erase(filled)
    before = {name: s.rows(filled, name) for name in ("trace", "observation", "content", "session", "score")}
    s.write(filled, s.end(of(1, "anna")), s.amend(1, observations=(s.retrieval(1, 9, user_id=None),)))
    s.write(
        filled,
        scores=(
            score(1, turn_id=s.turn_id(1)),
            score(6, trace_id=f"{1:032x}"),
            score(7, session_id="s1"),
            score(8, user_id="anna", trace_id="f" * 32),
        ),
    )
    assert {name: s.rows(filled, name) for name in before} == before
    assert s.loss(filled) == {"stored": 3, "erased": 3}


def test_a_person_who_comes_back_is_recorded_again_unless_suppressed(database: Database) -> None:
    s.write(database, s.end(of(1, "anna")))
    receipt = erase(database)
    later = replace(of(2, "anna"), started_at_us=receipt.requested_at_us + 1)
    s.write(database, s.end(later))
    assert [row["id"] for row in s.rows(database, "trace")] == [s.turn_id(2)]
    (session,) = s.rows(database, "session")
    assert session["trace_count"] == 1
    again = erase(database, suppress=True)
    assert again.counts["trace"] == 1
    s.write(database, s.end(replace(of(3, "anna"), started_at_us=receipt.requested_at_us + 10**15)))
    assert s.rows(database, "trace") == s.rows(database, "session") == []


def test_a_step_of_the_person_takes_the_whole_turn(database: Database) -> None:
    shared = s.trace(1, user_id="bob", observations=(s.retrieval(1, 1, user_id="anna"),))
    s.write(database, s.end(shared), s.end(of(2, "bob")))
    erase(database)
    assert [row["id"] for row in s.rows(database, "trace")] == [s.turn_id(2)]
    (session,) = s.rows(database, "session")
    assert session["trace_count"] == 1


def test_a_dry_run_counts_what_would_go_and_changes_nothing(filled: Database) -> None:
    before = {name: s.rows(filled, name) for name in ("trace", "score", "tombstone", "erasure", "rollup")}
    with filled.read() as connection:
        counts = belonging.count(connection, replace(ANNA, until_us=job.now_us()))
    assert {name: s.rows(filled, name) for name in before} == before
    done = erase(filled).counts
    assert {name: n for name, n in counts.items() if name in ("comment", "queue_item", "session")} == {
        "comment": 1,
        "queue_item": 1,
        "session": 1,
    }
    assert set(counts) <= set(done)


def test_a_turn_can_be_erased_alone(filled: Database) -> None:
    receipt = erase(filled, Target(kind="turn", turn_ids=(s.turn_id(2),)))
    assert receipt.counts["trace"] == 3  # its judge's and its experiment's, too
    assert s.turn_id(2) not in {row["id"] for row in s.rows(filled, "trace")}
    s.write(filled, s.end(of(2, "bob")))
    assert s.turn_id(2) not in {row["id"] for row in s.rows(filled, "trace")}
    s.write(filled, s.end(of(5, "bob")))
    assert s.turn_id(5) in {row["id"] for row in s.rows(filled, "trace")}
    assert s.loss(filled) == {"stored": 4, "erased": 3}


def test_a_session_can_be_erased_alone(filled: Database) -> None:
    s.write(filled, s.end(of(3, "bob", session_id="s3")), s.end(of(4, "carl", session_id="s2")))
    erase(filled, Target(kind="session", sessions=(("s2", "bob"),)))
    assert {(row["session_id"], row["user_id"]) for row in s.rows(filled, "session")} == {
        ("s1", "anna"),
        ("s2", "carl"),
        ("s3", "bob"),
    }
    s.write(filled, s.end(of(5, "bob", session_id="s2")), s.end(of(6, "carl", session_id="s2")))
    assert s.turn_id(5) not in {row["id"] for row in s.rows(filled, "trace")}
    assert s.turn_id(6) in {row["id"] for row in s.rows(filled, "trace")}


def test_an_erasure_that_was_broken_off_goes_on_where_it_stood(database: Database, monkeypatch: Any) -> None:
    s.write(database, *(s.end(of(n, "anna")) for n in range(1, 30)))
    monkeypatch.setattr(job, "TURNS_AT_ONCE", 10)
    first = erase(database, seconds=0)
    assert not first.is_finished
    assert 0 < first.counts["trace"] < 29
    with database.read() as connection:
        assert receipts.unfinished(connection) == [first.id]
    assert job.is_erasure_due(database)
    assert job.erase(database, keys=KEYS) == {"finished": 1, "left": 0}
    assert not job.is_erasure_due(database)
    with database.read() as connection:
        receipt = receipts.get(connection, first.id)
    assert receipt.counts["trace"] == 29
    assert s.rows(database, "trace") == s.rows(database, "session") == []


@pytest.mark.parametrize("point", ["erase.after_batch=raise@2", "erase.before_verify=raise"])
def test_an_erasure_that_fails_at_any_step_is_finished_by_the_next(
    database: Database, monkeypatch: Any, point: str
) -> None:
    s.write(database, *(s.end(of(n, "anna")) for n in range(1, 30)))
    monkeypatch.setattr(job, "TURNS_AT_ONCE", 10)
    failpoint.activate(point)
    try:
        with pytest.raises(failpoint.FailPointReached):
            erase(database)
    finally:
        failpoint.activate("")
    assert job.is_erasure_due(database)
    assert job.erase(database, keys=KEYS) == {"finished": 1, "left": 0}
    assert s.rows(database, "trace") == s.rows(database, "content") == []
    (row,) = s.rows(database, "erasure")
    with database.read() as connection:
        assert receipts.get(connection, row["id"]).counts["trace"] == 29


def test_what_retention_has_archived_goes_too(database: Database, tmp_path: Path) -> None:
    kept = archive.Archive(tmp_path)
    kept.write("content", [of(1, "anna"), of(2, "bob")], at_us=s.NOW)
    receipt = erase(database, archive_dir=str(tmp_path))
    assert receipt.counts == {"archive": 1}
    (path,) = kept.files()
    assert b"anna" not in path.read_bytes()
    assert b"bob" in path.read_bytes()


@pytest.mark.parametrize("target", [ANNA, Target(kind="turn", turn_ids=(s.turn_id(1),))])
def test_what_was_archived_of_judges_and_experiments_goes_with_whom_it_quotes(
    filled: Database, tmp_path: Path, target: Target
) -> None:
    kept = archive.Archive(tmp_path)
    kept.write("content", [of(n, None, input="Anna said") for n in (11, 21)], at_us=s.NOW)
    kept.write("content", [of(n, None, input="Bob said") for n in (12, 22)], at_us=s.NOW)
    assert erase(filled, target, archive_dir=str(tmp_path)).counts["archive"] == 2
    (path,) = kept.files()
    assert [json.loads(line)["trace"]["input"] for line in path.read_bytes().splitlines()] == ["Bob said"] * 2


def test_an_erasure_finds_what_retention_is_about_to_archive(database: Database, tmp_path: Path) -> None:
    """Rows read before an erasure and written after it had looked would stay."""
    s.write(database, s.end(of(1, "anna")))
    kept = archive.Archive(tmp_path)
    with kept.alone():
        eraser = threading.Thread(target=erase, args=(database,), kwargs={"archive_dir": str(tmp_path)})
        eraser.start()
        deadline = time.monotonic() + 30
        while s.rows(database, "trace") and time.monotonic() < deadline:
            pass
        kept.write("content", [of(1, "anna")], at_us=s.NOW)
    eraser.join(30)
    assert not eraser.is_alive()
    assert b"anna" not in kept.files()[0].read_bytes()


def test_erasing_again_finds_nothing(filled: Database) -> None:
    erase(filled)
    again = erase(filled)
    assert again.is_finished
    assert again.counts == {}


@pytest.mark.parametrize("commits", [True, False])
def test_an_erasure_in_the_hosts_transaction_goes_with_its_commit(filled: Database, commits: bool) -> None:
    before = {name: s.rows(filled, name) for name in ("trace", "observation", "score", "session", "loss")}
    engine = create_engine(filled.url)
    with engine.connect() as host:
        receipt = job.erase_online(host, ANNA, actor="host")
        assert not receipt.is_finished
        assert receipt.counts["trace"] == 3
        host.commit() if commits else host.rollback()
    engine.dispose()
    if not commits:
        assert {name: s.rows(filled, name) for name in before} == before
        assert s.rows(filled, "tombstone") == s.rows(filled, "erasure") == []
        s.write(filled, s.end(of(30, "anna")))
        assert s.turn_id(30) in {row["id"] for row in s.rows(filled, "trace")}
        return
    assert "anna" not in repr(s.rows(filled, "trace"))
    assert job.erase(filled, keys=KEYS) == {"finished": 1, "left": 0}
    with filled.read() as connection:
        done = receipts.get(connection, str(receipt.id))
    assert done.is_finished
    assert done.counts == receipt.counts


def test_a_writer_that_races_the_eraser_never_slips_a_turn_through(database: Database) -> None:
    races = 1000 if os.environ.get("TURNTRACE_TEST_LONG") else 17  # on each of three databases
    for race in range(races):
        user = f"user-{race}"
        turns = [of(1000 * (race + 1) + n, user, session_id=user) for n in range(2)]
        go = threading.Barrier(2)

        def write(go: threading.Barrier = go, turns: list[Any] = turns) -> None:
            go.wait(30)
            for turn in turns:
                s.write(database, s.end(turn))

        writer = threading.Thread(target=write)
        writer.start()
        go.wait(30)
        receipt = erase(database, Target(kind="subject", user_ids=(user,)))
        writer.join()
        assert receipt.is_finished
        with database.read() as connection:
            target = Target(kind="subject", user_ids=(user,), until_us=receipt.requested_at_us)
            assert belonging.count(connection, target) == {}
    assert s.loss(database) == {"erased": 2 * races}


def test_no_turn_slips_past_a_tombstone_whatever_the_order(database: Database) -> None:
    """The same race in its shortest form: the tombstone's transaction and the first deletion against one writer. The
    start of one or the other is moved by a fraction of a millisecond from race to race."""
    races = 1000 if os.environ.get("TURNTRACE_TEST_LONG") else 120  # on each of three databases
    turns = [s.end(of(1000 + n, f"user-{n}", session_id=f"user-{n}")) for n in range(races)]
    gate = threading.Barrier(2)

    def write() -> None:
        for n, turn in enumerate(turns):
            gate.wait(60)
            time.sleep(max(0.0, ahead(n)))
            s.write(database, turn)
            gate.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    slipped, refused = [], 0
    for n in range(races):
        target = Target(kind="subject", user_ids=(f"user-{n}",))
        gate.wait(60)
        time.sleep(max(0.0, -ahead(n)))
        asked = database.transact(job.ask, target, actor="test")
        refused += not database.transact(first_deletion, asked)
        gate.wait(60)
        slipped += [row["id"] for row in s.rows(database, "trace")]
    writer.join()
    assert slipped == []
    for name in ("trace", "observation", "content", "session"):
        assert s.rows(database, name) == [], name
    assert s.loss(database) == {"erased": races}
    assert 0 < refused < races  # both orders came about


def ahead(race: int) -> float:
    """By how many seconds the eraser of a race begins before the writer."""
    return (race % 20 - 10) * 0.0005


def first_deletion(connection: Any, asked: receipts.Erasure) -> int:
    """What the job does after the tombstones: the turns that are there."""
    digest_key = tombstones.take_fence(connection, exclusive=True)
    eraser = Eraser(connection, asked.target, erasure_id=asked.id, digest_key=digest_key, now_us=job.now_us())
    return eraser.erase_turns(10)
