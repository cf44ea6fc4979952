"""Queues of turns to review: filled once, one reviewer a turn, ended once, and gone with the turns they are about."""

import threading
from collections import Counter
from dataclasses import replace

import pytest
import stored as s

from turntrace.errors import InvalidInput, NotFound
from turntrace.evaluation.queue import Queue, QueueItem, read_questions
from turntrace.jobs.queues import DAY_US, fill_queues
from turntrace.records.score import Score
from turntrace.storage import queues, scores
from turntrace.storage.database import Database

NOW = s.NOW
QUESTIONS = ("verdict: good | bad | unsure", "on topic: yes/no", "stars: 1 to 5", "better answer: correction")


def make(database: Database, **fields: object) -> Queue:
    made = Queue(id="", name="weekly read", questions=read_questions(QUESTIONS))
    return database.transact(queues.put, replace(made, **fields), now_us=NOW)  # type: ignore[arg-type]


def turns(database: Database, count: int) -> list[str]:
    traces = [s.trace(n) for n in range(count)]
    s.write(database, *(s.end(trace) for trace in traces))
    return [trace.id for trace in traces]


def claim(database: Database, queue: Queue, reviewer: str, now_us: int = NOW) -> QueueItem | None:
    return database.transact(queues.claim, queue, reviewer, now_us=now_us)


def verdict(item: QueueItem, value: str, reviewer: str) -> Score:
    return Score(
        id=queues.score_id(item.id, "verdict"),
        name="verdict",
        value=value,
        data_type="categorical",
        source="human",
        turn_id=item.turn_id,
        author=reviewer,
    )


def review(database: Database, item: QueueItem, reviewer: str, value: str = "good") -> None:
    database.transact(queues.finish, item.id, reviewer, [verdict(item, value, reviewer)], now_us=NOW)


def test_a_queue_is_read_as_it_was_written(database: Database) -> None:
    made = make(database, instructions="Read it all.", reviewers=2, assignees=("ada",), daily=5, filter={"q": "kettle"})
    with database.read() as connection:
        assert queues.get(connection, made.id) == made
        assert queues.list_queues(connection) == [made]
        with pytest.raises(NotFound):
            queues.get(connection, "0" * 32)
    changed = replace(made, name="monthly read", is_archived=True)
    assert database.transact(queues.put, changed, now_us=NOW + 1).name == "monthly read"
    with database.read() as connection:
        assert queues.list_queues(connection) == []


def test_two_queues_never_have_one_name(database: Database) -> None:
    make(database)
    with pytest.raises(InvalidInput, match="name: another queue has it"):
        make(database)


def test_each_turn_comes_in_once_and_goes_to_one_reviewer(database: Database) -> None:
    queue, ids = make(database), turns(database, 3)
    assert database.transact(queues.fill, queue, [*ids, *ids, "f" * 32], now_us=NOW) == 3
    assert database.transact(queues.fill, queue, ids, now_us=NOW) == 0
    first, second = claim(database, queue, "ada"), claim(database, queue, "bob")
    assert first is not None
    assert second is not None
    assert first.turn_id != second.turn_id
    assert claim(database, queue, "ada") == replace(first, lease_until_us=NOW + queues.LEASE_US)
    review(database, first, "ada")
    third = claim(database, queue, "ada")
    assert third is not None
    assert third.turn_id not in (first.turn_id, second.turn_id)
    database.transact(queues.skip, third.id, "ada", now_us=NOW)
    assert claim(database, queue, "ada") is None
    with database.read() as connection:
        found = queues.progress(connection, [queue.id])[queue.id]
    assert (found.waiting, found.in_hand, found.done, found.skipped) == (0, 1, 1, 1)


def test_a_turn_left_open_goes_to_the_next_and_who_left_it_cannot_end_it(database: Database) -> None:
    queue, ids = make(database), turns(database, 1)
    database.transact(queues.fill, queue, ids, now_us=NOW)
    left = claim(database, queue, "ada")
    assert left is not None
    assert claim(database, queue, "bob") is None
    taken = claim(database, queue, "bob", NOW + queues.LEASE_US + 1)
    assert taken is not None
    assert taken.id == left.id
    with pytest.raises(InvalidInput, match="somebody else"):
        review(database, left, "ada")
    assert s.rows(database, "score") == []
    review(database, taken, "bob")


def test_several_reviewers_read_a_turn_and_nobody_twice(database: Database) -> None:
    queue, ids = make(database, reviewers=2), turns(database, 2)
    assert database.transact(queues.fill, queue, ids, now_us=NOW) == 2
    for reviewer, value in (("ada", "good"), ("bob", "bad")):
        seen = []
        while (item := claim(database, queue, reviewer)) is not None:
            seen.append(item.turn_id)
            review(database, item, reviewer, value)
        assert sorted(seen) == sorted(ids)
    with database.read() as connection:
        said = queues.answers(connection, queue)["verdict"]
    assert Counter(said) == Counter([(turn, value) for turn in ids for value in ("good", "bad")])


def test_a_review_done_again_replaces_its_scores(database: Database) -> None:
    queue, ids = make(database), turns(database, 1)
    database.transact(queues.fill, queue, ids, now_us=NOW)
    item = claim(database, queue, "ada")
    assert item is not None
    review(database, item, "ada", "good")
    review(database, item, "ada", "bad")
    assert [row["text"] for row in s.rows(database, "score")] == ["bad"]


def test_reviewers_at_once_never_get_the_same_turn(database: Database) -> None:
    queue, ids = make(database), turns(database, 24)
    database.transact(queues.fill, queue, ids, now_us=NOW)
    seen: list[str] = []

    def work(reviewer: str) -> None:
        while (item := claim(database, queue, reviewer)) is not None:
            seen.append(item.turn_id)
            review(database, item, reviewer)

    threads = [threading.Thread(target=work, args=(f"reviewer-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == sorted(ids)
    assert len(s.rows(database, "score")) == 24


def test_a_reviewer_who_looks_twice_at_once_gets_one_turn_once(database: Database) -> None:
    queue, ids = make(database, reviewers=2), turns(database, 1)
    database.transact(queues.fill, queue, ids, now_us=NOW)
    found: list[QueueItem | None] = []
    second = threading.Thread(target=lambda: found.append(claim(database, queue, "ada")))
    with database.write() as connection:
        found.append(queues.claim(connection, queue, "ada", now_us=NOW))
        second.start()
        second.join(0.5)  # it waits for us, or has gone past us by now
    second.join(60)
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_queue_fills_itself_with_turns_of_yesterday_once(database: Database) -> None:
    ids = turns(database, 12)
    day = s.T0 - s.T0 % DAY_US + DAY_US
    today = day + 3_600_000_000
    queue = make(database, daily=5)
    of_errors = make(database, name="errors", daily=5, filter={"status": "error"})
    assert fill_queues(database, now_us=today)["turns"] == 5
    chosen = {row["turn_id"] for row in s.rows(database, "queue_item")}
    assert len(chosen) == 5
    assert chosen < set(ids)
    assert fill_queues(database, now_us=today)["turns"] == 0
    assert fill_queues(database, now_us=today + DAY_US)["turns"] == 0
    with database.read() as connection:
        states = queues.progress(connection, [queue.id, of_errors.id])
    assert (states[queue.id].waiting, states[of_errors.id].waiting) == (5, 0)


def test_a_queue_fills_itself_with_turns_that_two_judged_differently(database: Database) -> None:
    ids = turns(database, 4)
    told = {0: (True, False), 1: (True, True), 2: (False,)}
    for number, values in told.items():
        for giver, value in zip(("evaluator", "human"), values, strict=False):
            made = Score(
                id=f"{giver}-{number}", name="grounded", value=value, data_type="boolean", source=giver,
                turn_id=ids[number], evaluator="judge" if giver == "evaluator" else None,
            )  # fmt: skip
            database.transact(scores.upsert, made, now_us=NOW)
    for giver, stars in (("ada", 1.0), ("bo", 5.0)):
        made = Score(
            id=f"stars-{giver}",
            name="stars",
            value=stars,
            data_type="numeric",
            source="human",
            turn_id=ids[3],
            author=giver,
        )
        database.transact(scores.upsert, made, now_us=NOW)
    today = s.T0 - s.T0 % DAY_US + DAY_US + 3_600_000_000
    for name, number in (("grounded", 0), ("stars", 3)):
        queue = make(database, name=name, daily=5, filter={"disagreement": name})
        assert fill_queues(database, now_us=today)["turns"] == 1
        items = [row for row in s.rows(database, "queue_item") if row["queue_id"] == queue.id]
        assert [row["turn_id"] for row in items] == [ids[number]]


@pytest.mark.parametrize(
    "line", ["verdict", ": good | bad", "verdict: good", "verdict: good | good", "stars: 5 to 1", "x: " + "a|" * 10]
)
def test_a_question_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(InvalidInput, match="questions"):
        read_questions([line])


@pytest.mark.parametrize("line", QUESTIONS)
def test_a_question_is_written_as_it_was_read(line: str) -> None:
    (question,) = read_questions([line])
    assert question.written() == line


@pytest.mark.parametrize(("line", "answer"), [(QUESTIONS[0], "great"), (QUESTIONS[1], "maybe"), (QUESTIONS[2], "6")])
def test_an_answer_that_is_not_allowed_is_refused(line: str, answer: str) -> None:
    (question,) = read_questions([line])
    with pytest.raises(InvalidInput, match=question.name):
        question.value(answer)
