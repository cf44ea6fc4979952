"""Stored turns on their way to destinations: at least once, filtered, bounded, whatever dies in between."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import func, select, text

from tests.integration.worker import frames as f
from tests.integration.worker.conftest import NewWorker, NewWriter, work
from turntrace.records.destination import Answer, Destination, Verdict
from turntrace.records.fragment import FrameKind
from turntrace.records.trace import Trace
from turntrace.settings import Settings
from turntrace.spool.writer import SpoolWriter
from turntrace.storage import tables
from turntrace.storage.database import Database
from turntrace.storage.queries.outbound import DestinationFact, destinations
from turntrace.worker import exporter
from turntrace.worker.exporter import Exporter, names_for

TAKEN = Answer(verdict=Verdict.TAKEN)
LATER = Answer(verdict=Verdict.LATER, reason="status 503")
REFUSED = Answer(verdict=Verdict.REFUSED, reason="status 400")


# What no database does differently.
on_sqlite = pytest.mark.parametrize("dialect", ["sqlite"])


class Peer:
    """A destination that remembers what it was sent, and answers as it is told."""

    def __init__(self, answer: Callable[[set[str]], Answer] = lambda turns: TAKEN) -> None:
        self.answer = answer
        self.requests: list[set[str]] = []
        self.taken: list[str] = []
        self.body = b""

    def send(self, body: bytes) -> Answer:
        self.body = body
        request = ExportTraceServiceRequest.FromString(body)
        spans = [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
        pairs = [pair for span in spans for pair in span.attributes if pair.key == "turntrace.turn.id"]
        turns = {pair.value.string_value for pair in pairs}
        self.requests.append(turns)
        answer = self.answer(turns)
        if answer.verdict is Verdict.TAKEN:
            self.taken += sorted(turns)
        return answer

    def close(self) -> None:
        """Nothing is open."""


def ids(*numbers: int) -> list[str]:
    return [f.turn_id(n) for n in numbers]


def spot(name: str = "peer", **fields: Any) -> Destination:
    return Destination(name=name, url="http://127.0.0.1:1/v1/traces", **fields)


def drain(sending: Exporter) -> None:
    while sending.step() == 0.0:
        pass


def fact(database: Database, name: str = "peer") -> DestinationFact:
    with database.read() as connection:
        return next(found for found in destinations(connection) if found.name == name)


@pytest.fixture
def writer(new_writer: NewWriter) -> SpoolWriter:
    return new_writer()


def test_every_stored_turn_is_sent_once_and_again_when_it_changes(
    database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    peer, there = Peer(), spot()
    worker = new_worker(exports=names_for([there]))
    sending = Exporter(database, there, peer)
    for n in range(3):
        f.end(writer, n, f.call(n))
    f.start(writer, 9, f.call(9))
    work(worker)
    drain(sending)
    assert peer.taken == ids(0, 1, 2)
    work(worker)
    drain(sending)
    assert len(peer.taken) == 3
    late = f.payload({key: f.header(1)[key] for key in ("id", "trace_id", "span_id")}, f.call(1, 2))
    writer.append(FrameKind.AMEND, late, is_first=False)
    f.end(writer, 9, f.call(9), is_first=False)
    work(worker)
    drain(sending)
    assert sorted(peer.taken[3:]) == ids(1, 9)
    found = fact(database)
    assert (found.sent, found.waiting, found.failures, found.last_error) == (5, 0, 0, None)
    assert found.last_sent_at_us is not None


@on_sqlite
def test_what_died_between_sending_and_noting_it_is_sent_again(
    database: Database, writer: SpoolWriter, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, there = Peer(), spot()
    f.end(writer, 1, f.call(1))
    work(new_worker(exports=names_for([there])))

    def die(point: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("turntrace.worker.exporter.reach", die)
        first = Exporter(database, there, peer)
        with pytest.raises(KeyboardInterrupt):
            first.step()
    first._leave()
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(1, 1)
    assert fact(database).sent == 1


@on_sqlite
def test_a_turn_that_is_not_committed_is_not_sent(
    database: Database, writer: SpoolWriter, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = spot()
    f.end(writer, 1, f.call(1))

    def die(point: str) -> None:
        if point == "storage.before_commit":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("turntrace.storage.batches.reach", die)
        with pytest.raises(KeyboardInterrupt):
            new_worker(exports=names_for([there])).step()
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.outbound)).scalar() == 0
    peer = Peer()
    work(new_worker(exports=names_for([there])))
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(1)


@on_sqlite
def test_filters_say_what_goes_where(database: Database, writer: SpoolWriter, new_worker: NewWorker) -> None:
    every = spot("every")
    chats = spot("chats", routes=("/chat*",), environments=("prod*",))
    half = spot("half", sample_rate=0.5)
    spots = (every, chats, half)
    low, high = "0" * 18 + "1" * 14, "0" * 18 + "f" * 14
    f.end(writer, 1, f.call(1), environment="production", trace_id=low)
    f.end(writer, 2, f.call(2), environment="staging", trace_id=high)
    f.end(writer, 3, f.call(3), environment="production", route="/other", trace_id=high)
    f.end(writer, 4, f.call(4), environment="turntrace-evaluation", trace_id=high)
    f.end(writer, 5, f.call(5), flags=["relayed"])
    work(new_worker(exports=names_for(spots)))
    peers = {there.name: Peer() for there in spots}
    for there in spots:
        drain(Exporter(database, there, peers[there.name]))
    assert {name: peer.taken for name, peer in peers.items()} == {
        "every": ids(1, 2, 3),
        "chats": ids(1),
        "half": ids(1),
    }
    assert (fact(database, "chats").sent, fact(database, "chats").left_out) == (1, 3)


@on_sqlite
def test_a_destination_that_is_away_gets_everything_later(
    database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    there, peer = spot(), Peer(lambda turns: LATER)
    f.end(writer, 1, f.call(1))
    f.end(writer, 2, f.call(2))
    work(new_worker(exports=names_for([there])))
    now = [f.T0]
    sending = Exporter(database, there, peer, wall=lambda: now[0])
    pauses = [sending.step() for _ in range(12)]
    assert pauses[0] <= 1.0 < pauses[5]
    assert max(pauses) <= 300
    found = fact(database)
    assert (found.failures, found.waiting, found.sent, found.last_error) == (12, 2, 0, "status 503")
    assert (found.failing_since_us, found.waiting_since_us is not None) == (f.T0, True)
    peer.answer = lambda turns: Answer(verdict=Verdict.LATER, reason="status 429", retry_seconds=200.0)
    assert sending.step() >= 200
    peer.answer = lambda turns: TAKEN
    now[0] += 5
    drain(sending)
    assert peer.taken == ids(1, 2)
    assert fact(database).failing_since_us is None


@on_sqlite
def test_one_turn_that_is_refused_costs_only_itself(
    database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    bad = f.turn_id(2)
    there, peer = spot(), Peer(lambda turns: REFUSED if bad in turns else TAKEN)
    for n in range(5):
        f.end(writer, n, f.call(n))
    work(new_worker(exports=names_for([there])))
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(0, 1, 3, 4)
    found = fact(database)
    assert (found.sent, found.refused, found.waiting, found.last_error) == (4, 1, 0, "status 400")


def test_the_oldest_are_left_out_where_too_many_wait(
    database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    there, peer = spot(), Peer()
    for n in range(7):
        f.end(writer, n, f.call(n))
    work(new_worker(exports=names_for([there]), batch_turns=1))
    drain(Exporter(database, there, peer, most_waiting=4))
    assert peer.taken == ids(3, 4, 5, 6)
    assert (fact(database).overflowed, fact(database).sent) == (3, 4)


def test_one_of_several_hosts_sends(database: Database, writer: SpoolWriter, new_worker: NewWorker) -> None:
    there = spot()
    f.end(writer, 1, f.call(1))
    work(new_worker(exports=names_for([there])))
    entered, leave = threading.Event(), threading.Event()

    def hold(turns: set[str]) -> Answer:
        entered.set()
        leave.wait(60)
        return TAKEN

    slow, quick = Peer(hold), Peer()
    thread = threading.Thread(target=Exporter(database, there, slow).step)
    thread.start()
    try:
        assert entered.wait(60)
        if not database.is_memory:
            assert Exporter(database, there, quick).step() > 0
    finally:
        leave.set()
        thread.join()
    assert (quick.requests, slow.taken) == ([], ids(1))


@on_sqlite
def test_an_erased_turn_is_not_sent(database: Database, writer: SpoolWriter, new_worker: NewWorker) -> None:
    there, peer = spot(), Peer()
    f.end(writer, 1, f.call(1))
    f.end(writer, 2, f.call(2))
    work(new_worker(exports=names_for([there])))
    with database.write() as connection:
        connection.execute(tables.trace.delete().where(tables.trace.c.id == f.turn_id(1)))
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(2)


@on_sqlite
@pytest.mark.parametrize(
    ("content", "flags", "has_texts"), [(True, [], True), (False, [], False), (True, ["unredacted"], False)]
)
def test_texts_go_where_they_are_wanted_and_never_unredacted(
    content: bool, flags: list[str], has_texts: bool, database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    there, peer = spot(content=content), Peer()
    f.end(writer, 1, f.call(1), flags=flags)
    settings = Settings(redaction="off", content="full")
    work(new_worker(exports=names_for([there]), settings=settings))
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(1)
    assert (b"completion 1.1" in peer.body) is has_texts
    assert b"gpt-4o-mini-2024-07-18" in peer.body


@on_sqlite
def test_a_turn_that_has_no_form_there_holds_up_no_other(
    database: Database, writer: SpoolWriter, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, peer = spot(), Peer()
    for n in range(3):
        f.end(writer, n, f.call(n))
    work(new_worker(exports=names_for([there])))

    def encode(traces: list[Trace], **options: Any) -> bytes:
        if traces[0].id == f.turn_id(1):
            raise ValueError("no form")
        return real(traces, **options)

    real = exporter.encode
    monkeypatch.setattr(exporter, "encode", encode)
    drain(Exporter(database, there, peer))
    assert peer.taken == ids(0, 2)
    assert (fact(database).sent, fact(database).refused, fact(database).left_out) == (2, 1, 0)


@on_sqlite
def test_a_database_that_refuses_even_the_note_of_a_fault_ends_no_exporter(
    database: Database, writer: SpoolWriter, new_worker: NewWorker
) -> None:
    peer, there = Peer(), spot()
    f.end(writer, 1, f.call(1))
    work(new_worker(exports=names_for([there])))
    sending = Exporter(database, there, peer)
    with database.write() as connection:
        for table in ("turntrace_destination", "turntrace_lease"):
            refuse = f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
            connection.execute(text(refuse))
    assert sending._guarded_step() > 0
    with database.write() as connection:
        for table in ("turntrace_destination", "turntrace_lease"):
            connection.execute(text(f"DROP TRIGGER refuse_{table}"))
    while sending._guarded_step() == 0.0:
        pass
    assert peer.taken == ids(1)
