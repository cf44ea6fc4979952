"""Turns made of what was received: one per trace and sender, counted once, true sums, nothing kept readable."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.otlp.inlet import Inlet, attributes, generation, logs, request, span
from turntrace import semconv
from turntrace.keyring import KeyRing
from turntrace.pipeline.gather import gather
from turntrace.records.fragment import Fragment
from turntrace.storage import received, rollups, tables
from turntrace.storage.database import Database
from turntrace.storage.queries import traces
from turntrace.worker import reception

TRACE = f"{1:032x}"
LLAMA = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 10}


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def sums(database: Database) -> dict[str, int]:
    """Sums over the hours' roll-ups of turns and model calls, whatever is merged already."""
    with database.read() as connection:
        found = connection.execute(select(tables.rollup)).mappings().all()
    hours = [row for row in found if row["grain"] == "hour" and row["dimension"] == ""]
    names = ("turns", "calls", "input_tokens", "errors")
    return {name: sum(int(row[name]) for row in hours) for name in names}


def sessions(database: Database) -> list[tuple[str, int, int]]:
    return [(row["session_id"], row["trace_count"], row["input_tokens"]) for row in rows(database, tables.session)]


def balanced(inlet: Inlet) -> dict[str, int]:
    found = inlet.loss()
    assert found.accepted == found.stored + found.sampled + found.erased + sum(found.dropped.values())
    return {"accepted": found.accepted, "stored": found.stored, "sampled": found.sampled, "erased": found.erased}


async def test_spans_that_come_one_after_the_other_are_one_turn_counted_once(database: Database) -> None:
    inlet = Inlet(database)
    sender = inlet.sender()
    parts = [
        generation(1, 3, 2, **{"session.id": "s1"}),
        span(1, 1),
        generation(1, 4, 2),
        span(1, 2, 1, attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}),
    ]
    for part in (*parts, *parts):
        await sender.send(request(part))
        inlet.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.usage is not None
    assert (turn.observation_count, turn.usage.input_tokens, turn.name, turn.source) == (4, 200, "span 1", "otlp")
    assert turn.started_at_us == 1_790_000_000_001_000
    assert turn.duration_us == 8_000
    assert balanced(inlet) == {"accepted": 1, "stored": 1, "sampled": 0, "erased": 0}
    assert sums(database) == {"turns": 1, "calls": 2, "input_tokens": 200, "errors": 0}
    assert sessions(database) == [("s1", 1, 200)]


async def test_a_call_that_turns_out_to_be_a_wrapper_is_taken_back(database: Database) -> None:
    inlet = Inlet(database)
    sender = inlet.sender()
    await sender.send(request(span(1, 1, attributes=LLAMA)))
    inlet.work()
    assert sums(database)["calls"] == 1
    await sender.send(request(span(1, 2, 1, attributes=LLAMA)))
    inlet.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert [item.type for item in turn.observations] == ["chain", "generation"]
    assert sums(database) == {"turns": 1, "calls": 1, "input_tokens": 10, "errors": 0}
    assert balanced(inlet)["stored"] == 1


async def test_sampling_is_decided_anew_with_what_comes(database: Database) -> None:
    inlet = Inlet(database, sample_rate=0.0, sample_hold_hours=0)
    sender = inlet.sender()
    for part in (generation(1, 1), generation(1, 2)):
        await sender.send(request(part))
        inlet.work()
    assert balanced(inlet) == {"accepted": 1, "stored": 0, "sampled": 1, "erased": 0}
    assert sums(database) == {"turns": 1, "calls": 2, "input_tokens": 200, "errors": 0}
    await sender.send(request({**generation(1, 3), "status": {"code": 2}}))
    inlet.work()
    assert balanced(inlet) == {"accepted": 1, "stored": 1, "sampled": 0, "erased": 0}
    assert sums(database) == {"turns": 1, "calls": 3, "input_tokens": 300, "errors": 2}
    turn = sender.trace(TRACE)
    assert turn is not None
    assert (turn.observation_count, turn.keep_reason) == (3, "error")
    assert rows(database, tables.sampled) == []


async def test_two_senders_of_one_trace_id_have_two_turns_that_are_shown_together(own: Inlet) -> None:
    one, other = own.sender(), own.sender()
    await one.send(request(generation(1, 1)))
    await other.send(request(generation(1, 1), generation(1, 2, 1)))
    own.work()
    assert one.turn_id(TRACE) != other.turn_id(TRACE)
    with own.database.read() as connection:
        found = traces.find_traces(connection, TRACE)
    assert {turn.id: turn.observation_count for turn in found} == {one.turn_id(TRACE): 1, other.turn_id(TRACE): 2}
    assert {turn.id[12] for turn in found} == {"8"}


async def test_a_parent_that_is_elsewhere_is_the_turns_caller(own: Inlet) -> None:
    sender = own.sender()
    await sender.send(request(generation(1, 2, 77)))
    own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.parent_span_id == f"{77:016x}"
    assert turn.observations[0].parent_span_id is None
    await sender.send(request(span(1, 77)))
    own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.parent_span_id is None
    assert [item.parent_span_id for item in turn.observations] == [f"{77:016x}", None] or turn.observations


async def test_what_was_received_is_kept_sealed_and_goes_when_it_is_settled(database: Database) -> None:
    inlet = Inlet(database, content="metadata")
    sender = inlet.sender()
    secret = "4111-1111-1111-1111 of Anna"
    await sender.send(request(generation(1, 1, **{"gen_ai.prompt": secret})))
    inlet.work()
    [piece] = rows(database, tables.received)
    assert piece["turn_id"] == sender.turn_id(TRACE)
    assert secret.encode() not in bytes(piece["data"])
    assert b"gpt-4o-mini" not in bytes(piece["data"])
    with database.write() as connection:
        assert received.prune(connection, now_us=piece["at_us"] + received.SETTLED_US) == 0
    with database.write() as connection:
        assert received.prune(connection, now_us=piece["at_us"] + received.SETTLED_US + 1) == 1
    assert rows(database, tables.received) == []


async def test_spans_of_a_settled_turn_join_its_rows(database: Database) -> None:
    inlet = Inlet(database)
    sender = inlet.sender()
    await sender.send(request(generation(1, 1)))
    inlet.work()
    with database.write() as connection:
        received.prune(connection, now_us=1 << 61)
    for part in (generation(1, 2), generation(1, 1), generation(1, 3)):
        await sender.send(request(part))
        inlet.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.observation_count == 3
    assert balanced(inlet) == {"accepted": 1, "stored": 1, "sampled": 0, "erased": 0}
    assert sums(database) == {"turns": 1, "calls": 3, "input_tokens": 300, "errors": 0}


async def test_a_host_without_the_key_adds_to_the_turn_and_nothing_is_lost_by_either(database: Database) -> None:
    inlet, stranger = Inlet(database), Inlet(database, KeyRing([b"1" * 32], is_explicit=True))
    sender = inlet.sender()
    there = copy.copy(sender)
    there.inlet = stranger
    for number, at in enumerate((sender, there, sender, there), start=1):
        await at.send(request(generation(1, number)))
        at.inlet.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.observation_count == 4
    assert sums(database) == {"turns": 1, "calls": 4, "input_tokens": 400, "errors": 0}


async def test_two_workers_that_store_parts_of_one_turn_at_once_make_one_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    inlet, other = Inlet(database), Inlet(database)
    sender = inlet.sender()
    there = copy.copy(sender)
    there.inlet = other
    await sender.send(request(span(1, 1, attributes=LLAMA)))
    await there.send(request(span(1, 2, 1, attributes=LLAMA)))
    gather = inlet.worker._desk.gather  # type: ignore[union-attr]
    between: list[bool] = []

    def interrupted(arrivals: Any) -> Any:
        """What the first worker has read is not the newest any more when it writes."""
        found = gather(arrivals)
        if not between:
            between.append(True)
            other.work()
        return found

    monkeypatch.setattr(inlet.worker._desk, "gather", interrupted)
    inlet.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert [item.type for item in turn.observations] == ["chain", "generation"]
    assert balanced(inlet) == {"accepted": 1, "stored": 1, "sampled": 0, "erased": 0}
    assert sums(database) == {"turns": 1, "calls": 1, "input_tokens": 10, "errors": 0}


async def test_a_turn_that_grows_past_all_bounds_is_added_to_piece_by_piece(own: Inlet) -> None:
    own.worker._desk._most_bytes = 3_000  # type: ignore[union-attr]
    sender = own.sender()
    for number in range(1, 21):
        await sender.send(request(generation(1, number)))
        own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.observation_count == 20
    assert balanced(own) == {"accepted": 1, "stored": 1, "sampled": 0, "erased": 0}
    assert sum(len(row["data"]) for row in rows(own.database, tables.received)) < 3_000


async def test_log_records_alone_are_no_turn_and_wait_for_their_span(own: Inlet) -> None:
    sender = own.sender()
    record = {
        "traceId": TRACE,
        "spanId": f"{1:016x}",
        "timeUnixNano": "1790000000002000000",
        "eventName": "gen_ai.user.message",
        "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": "Where is my kettle?"}}]}},
    }
    await sender.send(logs(record, {**record, "eventName": "app.started"}, {**record, "eventName": None}))
    own.work()
    assert balanced(own)["accepted"] == 0
    await sender.send(request(generation(1, 1)))
    own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.observations[0].input == [{"role": "user", "content": "Where is my kettle?"}]
    answer = await sender.send(logs({**record, "spanId": ""}))
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"


@pytest.mark.parametrize("is_early", [True, False])
async def test_results_of_evaluations_are_scores_of_their_span(is_early: bool, own: Inlet) -> None:
    sender = own.sender()
    named = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.75,
        "gen_ai.evaluation.score.label": "relevant",
        "gen_ai.evaluation.explanation": "It names the kettle.",
    }
    spans = request(generation(1, 1, **{"user.id": "anna"}))
    verdict = {
        "traceId": TRACE,
        "spanId": f"{1:016x}",
        "timeUnixNano": "1790000000002000000",
        "eventName": "gen_ai.evaluation.result",
        "attributes": attributes(named),
    }
    passed = {**verdict, "spanId": "", "attributes": attributes({**named, "gen_ai.evaluation.name": "whole"})}
    verdicts = logs(verdict, passed, {**verdict, "attributes": []})
    for document in (verdicts, spans) if is_early else (spans, verdicts, verdicts):
        answer = await sender.send(document)
        own.work()
    if not is_early:
        assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    turn = sender.trace(TRACE)
    assert turn is not None
    found = {score.name: score for score in turn.scores}
    assert set(found) == {"relevance", "whole"}
    score = found["relevance"]
    assert (score.value, score.source, score.comment, score.span_id) == (
        0.75,
        "evaluator",
        "It names the kettle.",
        f"{1:016x}",
    )
    assert found["whole"].span_id is None
    assert {row["user_id"] for row in rows(own.database, tables.score)} == {"anna"}


async def test_environment_and_release_come_from_the_resource(own: Inlet) -> None:
    sender = own.sender()
    document = request(generation(1, 1))
    named = {"service.name": "shop", "service.version": "1.2", "deployment.environment.name": "staging", "host": "x"}
    document["resourceSpans"][0]["resource"] = {"attributes": attributes(named)}
    await sender.send(document)
    own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert (turn.service_name, turn.release, turn.environment) == ("shop", "1.2", "staging")


async def test_a_trace_of_ten_thousand_spans_is_one_turn(own: Inlet) -> None:
    sender = own.sender()
    spans = [span(1, 1), *(generation(1, number, number // 2) for number in range(2, 10_001))]
    for at in range(0, len(spans), 2_500):
        assert (await sender.send(request(*spans[at : at + 2_500]), is_binary=at == 0)).status_code == 200
    own.work()
    turn = sender.trace(TRACE)
    assert turn is not None
    assert turn.observation_count == 10_000


async def test_a_turn_that_cannot_be_put_together_costs_only_itself(
    own: Inlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = own.sender()

    def choking(fragments: Sequence[Fragment]) -> Fragment | None:
        """A bug that one turn brings out."""
        if fragments[0].turn.id == sender.turn_id(TRACE):
            raise RecursionError
        return gather(fragments)

    monkeypatch.setattr(reception, "gather", choking)
    await sender.send(request(generation(1, 1), generation(2, 1)))
    own.work()
    assert [sender.trace(f"{number:032x}") is not None for number in (1, 2)] == [False, True]
    assert balanced(own)["stored"] == 1
    assert [row["n"] for row in rows(own.database, tables.loss) if row["reason"] == "late:pipeline"] == [1]


HOSTILE = {
    "long": {},
    "relayed": {semconv.OWN_TYPE: "generation", semconv.OWN_PREFIX + "cost": '{"total_nano": 4611686018427387904}'},
    "counts": {
        semconv.OWN_TYPE: "generation",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.provider.name": "anthropic",
        semconv.OWN_PREFIX + "usage_details": '{"web_searches": 9000000000000000000}',
    },
}


@pytest.mark.parametrize("stated", HOSTILE.values(), ids=HOSTILE)
async def test_numbers_that_fit_no_sum_do_not_stop_the_sums(database: Database, stated: dict[str, Any]) -> None:
    inlet = Inlet(database)
    sender = inlet.sender()
    for turn in (1, 2, 3):
        spans = [generation(turn, number, **stated) for number in range(1, 700)]
        ages = {"startTimeUnixNano": "1000", "endTimeUnixNano": str(2**63 - 1)} if not stated else {}
        await sender.send(request(*({**item, **ages} for item in spans)))
        inlet.work()
    assert balanced(inlet)["stored"] == 3
    rollups.compact(database, rounds=100)
    assert all(row["is_compacted"] for row in rows(database, tables.rollup))
    assert sums(database)["calls"] == 3 * 699
