"""Content of an environment in a database of its own: nothing of it in the main one, all of it read, all of it gone."""

import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import stored as s
from sqlalchemy import URL, Text, create_engine, func, select, type_coerce, update

from turntrace import api, failpoint
from turntrace.api import portability
from turntrace.api.context import ApiContext
from turntrace.doctor import examine
from turntrace.errors import DatabaseUnavailable, SettingsError
from turntrace.jobs import erase as job
from turntrace.jobs.archive import Archive
from turntrace.jobs.retain import retain
from turntrace.jobs.stores import empty
from turntrace.keyring import KeyRing
from turntrace.records.batch import Batch
from turntrace.records.erasure import Target
from turntrace.records.fragment import FrameKind
from turntrace.records.loss import Loss
from turntrace.records.observation import ErrorInfo
from turntrace.records.retention import parsed
from turntrace.settings import Settings
from turntrace.storage import content, keys, migrate, receipts, residence, sampling, strays, tables
from turntrace.storage.database import Database
from turntrace.storage.declared import declared
from turntrace.storage.opening import open_database
from turntrace.storage.queries.opened import UNREADABLE
from turntrace.storage.queries.traces import by_ids, find_traces, list_traces
from turntrace.storage.rotation import rotate
from turntrace.storage.staging import Staging
from turntrace.storage.tables.residence import blob
from turntrace.worker.delivery import Delivery

RING = KeyRing([b"k" * 32], is_explicit=True)
ANNA = Target(kind="subject", user_ids=("anna",))
EU = "production-eu"
CANARY = "canary-4711"
DAY_US = 86_400 * 1_000_000


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _opened(database: Database, store_url: URL, **settings: Any) -> Database:
    """The database as a process opens it whose settings name a store."""
    urls = {EU: _text(store_url)}
    return open_database(Settings(database_url=_text(database.url), content_urls=urls, **settings))


@pytest.fixture
def main(database: Database, store_url: URL) -> Iterator[Database]:
    """A main database whose content of one environment lies elsewhere."""
    found = _opened(database, store_url)
    migrate.make_stores(found)
    yield found
    found.close()


class Away:
    """A store that cannot be reached for as long as the block lasts: nobody listens there."""

    def __init__(self, main: Database) -> None:
        self._stores: Any = main.stores

    def __enter__(self) -> None:
        self._there = self._stores[EU]
        self._stores[EU] = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")

    def __exit__(self, *_: object) -> None:
        self._stores[EU] = self._there


def told(turn: int, **changes: Any) -> Any:
    """A turn of the environment, whose every text has the canary."""
    error = ErrorInfo(type="RateLimit", message=f"{CANARY} message", stack=f"{CANARY} stack")
    steps = (
        s.generation(turn, 1, input=f"{CANARY} asked", output=f"{CANARY} said", error=error, status="error"),
        s.retrieval(turn, 2, query=CANARY, documents=({"id": "d", "content": CANARY},), status_message=f"{CANARY}!"),
    )
    texts = {name: f"{CANARY} {name}" for name in ("input", "output", "input_preview", "output_preview")}
    made: dict[str, Any] = {"environment": EU, "observations": steps, "error": error, "metadata": {"why": CANARY}}
    return s.trace(turn, **{**made, **texts, **changes})


def late(turn: int, stated: str = "", **fields: Any) -> Any:
    environment = fields.pop("environment", EU)
    found = s.amend(turn, stated=stated, **fields)
    return replace(found, trace=replace(found.trace, environment=environment))


def held(main: Database) -> str:
    """Every value of every table of the main database, as it is stored and unpacked."""
    found = []
    with main.read() as c:
        for table in tables.metadata.tables.values():
            texts = [type_coerce(item, Text()) if hasattr(item.type, "is_sealing") else item for item in table.c]
            for row in c.execute(select(*texts)):
                found += [repr(value) for value in row]
                found += [_unpacked(bytes(value)) for value in row if isinstance(value, (bytes, memoryview))]
    return "\n".join(found)


def _unpacked(data: bytes) -> str:
    for codec in (content.Codec.DEFLATE, content.Codec.JSON):
        try:
            return repr(content.unpack(codec, data))
        except (ValueError, zlib.error):
            continue
    return ""


def blobs(main: Database) -> list[str]:
    """Turns that the store has a blob of, by blob."""
    with main.stores[EU].read() as c:
        return sorted(c.execute(select(blob.c.turn_id)).scalars())


def read(main: Database, turn: int = 1) -> Any:
    with main.read() as c:
        (found,) = find_traces(c, s.turn_id(turn))
    return found


def erase(main: Database) -> Any:
    return job.erase_at_once(main, ANNA, RING, actor="test")


def test_no_text_is_in_the_main_database_and_all_is_read(main: Database) -> None:
    other = s.trace(2, user_id="bob", environment="staging", input="of staging")
    s.write(main, s.end(told(1)), s.end(other))
    assert CANARY not in held(main)
    assert "of staging" in held(main)
    assert blobs(main) == [s.turn_id(1)]
    found, given = read(main), told(1)
    assert (found.input, found.output, found.metadata) == (given.input, given.output, given.metadata)
    assert (found.error, found.input_preview) == (given.error, None)
    answer, documents = found.observations
    assert (answer.input, answer.output, answer.error) == (f"{CANARY} asked", f"{CANARY} said", given.error)
    assert (documents.query, documents.status_message) == (CANARY, f"{CANARY}!")
    assert read(main, 2) == replace(other, scores=read(main, 2).scores)
    with main.read() as c:
        page = {item.id: item for item in list_traces(c).items}
    assert page[s.turn_id(1)].input_preview is None
    assert page[s.turn_id(1)].cost_total_nano == given.cost_total_nano
    assert s.rows(main, "stray") == []


def test_without_the_setting_nothing_is_elsewhere(database: Database) -> None:
    s.write(database, s.end(told(1)))
    assert read(database).output == f"{CANARY} output"
    assert read(database).output_preview == f"{CANARY} output_preview"
    assert (s.rows(database, "stray"), s.rows(database, "content")[0]["codec"]) == ([], 1)


def test_a_running_turn_is_shown_and_replaced_by_its_end(main: Database) -> None:
    s.write(main, s.start(told(1, output=None)))
    assert read(main).input == f"{CANARY} input"
    s.write(main, s.start(told(1, output="half")))
    s.write(main, s.end(told(1)))
    assert read(main).output == f"{CANARY} output"
    assert len(blobs(main)) == 3
    assert empty(main) == {"gone": 2, "left": 0}
    assert (blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])
    assert read(main).output == f"{CANARY} output"
    assert CANARY not in held(main)


def test_late_fragments_join_there(main: Database) -> None:
    later = late(1, "output output_preview", output=f"{CANARY} late", output_preview=f"{CANARY} late")
    error = ErrorInfo(type="Late", message=f"{CANARY} late message")
    step = late(1, observations=(s.generation(1, 7, output=f"{CANARY} step", error=error, status_message=CANARY),))
    # Before its turn, after it, and again.
    s.write(main, step)
    s.write(main, s.end(told(1)))
    s.write(main, later)
    found = read(main)
    assert (found.input, found.output, len(found.observations)) == (f"{CANARY} input", f"{CANARY} late", 3)
    (joined,) = [item for item in found.observations if item.span_id == s.span_id(7)]
    assert (joined.output, joined.error, joined.status_message) == (f"{CANARY} step", error, CANARY)
    known = read(main)
    s.write(main, later, step)
    assert read(main) == known
    assert CANARY not in held(main)
    empty(main)
    assert (blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])
    assert read(main) == known


def test_a_turn_and_its_late_fragment_in_one_batch(main: Database) -> None:
    s.write(main, s.end(told(1)), late(1, "output", output=f"{CANARY} late"), s.end(told(3)))
    assert (read(main).output, read(main, 3).output) == (f"{CANARY} late", f"{CANARY} output")
    empty(main)
    assert blobs(main) == [s.turn_id(1), s.turn_id(3)]


@pytest.mark.parametrize(("before", "after"), [("production", EU), (EU, "production")])
def test_content_follows_its_turn_to_another_environment(main: Database, before: str, after: str) -> None:
    s.write(main, s.end(told(1, environment=before)))
    s.write(main, late(1, "environment", environment=after))
    empty(main)
    found = read(main)
    assert (found.environment, found.output, found.error) == (after, f"{CANARY} output", told(1).error)
    assert found.observations[0].error == told(1).error
    assert found.observations[1].status_message == f"{CANARY}!"
    assert blobs(main) == ([s.turn_id(1)] if after == EU else [])
    assert (CANARY in held(main)) == (after != EU)


def test_what_was_received_anew_replaces_its_blob(main: Database) -> None:
    s.write(main, s.end(told(1), kind=FrameKind.OTLP))
    s.write(main, s.end(told(1, output=f"{CANARY} more"), kind=FrameKind.OTLP))
    assert read(main).output == f"{CANARY} more"
    empty(main)
    assert (blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])


def test_a_store_that_is_away_loses_nothing(main: Database) -> None:
    with Away(main):
        with pytest.raises(DatabaseUnavailable):
            s.write(main, s.end(told(1)), marks={"segment": 5})
        assert (s.rows(main, "trace"), s.rows(main, "segment"), s.rows(main, "stray")) == ([], [], [])
        s.write(main, s.end(s.trace(2)))  # a batch with nothing for it
    s.write(main, s.end(told(1)), marks={"segment": 5})
    with Away(main), pytest.raises(DatabaseUnavailable):
        s.write(main, late(1, "output", output=f"{CANARY} late"))
    s.write(main, late(1, "output", output=f"{CANARY} late"))
    assert read(main).output == f"{CANARY} late"
    assert s.loss(main) == {"stored": 2}


def test_the_worker_waits_for_a_store(main: Database) -> None:
    away, told_of = Away(main), []

    def tell(error: Exception) -> None:
        told_of.append(type(error))
        away.__exit__()

    delivery = Delivery(main, wall=lambda: s.NOW, tell=tell)
    away.__enter__()
    delivery.deliver(Batch(worked=(s.end(told(1)),), marks={"segment": 5}), threading.Event())
    assert told_of == [DatabaseUnavailable]
    assert read(main).output == f"{CANARY} output"
    assert (s.loss(main), [row["through_sequence"] for row in s.rows(main, "segment")]) == ({"stored": 1}, [5])


def test_a_turn_whose_store_is_away_is_shown_without_texts(main: Database) -> None:
    s.write(main, s.end(told(1)), s.end(s.trace(2)))
    with Away(main):
        found = read(main)
        assert (found.input, found.output, UNREADABLE in found.flags) == (None, None, True)
        assert [item.output for item in found.observations] == [None, None]
        assert read(main, 2).output == "On its way."
        with main.read() as c, pytest.raises(DatabaseUnavailable):
            by_ids(c, [s.turn_id(1)], is_strict=True)
    with main.stores[EU].write() as c:
        c.execute(blob.delete())
    assert UNREADABLE in read(main).flags


def _dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is stopped at a point says nothing more, as a killed process."""
    monkeypatch.setattr(Staging, "abandon", lambda _: None)


@pytest.mark.parametrize("point", ["residence.after_stage", "residence.after_write", "storage.before_commit"])
def test_a_writer_that_dies_leaves_a_note_of_what_it_began(
    main: Database, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if point != "storage.before_commit":
        _dying(monkeypatch)
    failpoint.activate(f"{point}=raise")
    with pytest.raises(failpoint.FailPointReached):
        s.write(main, s.end(told(1)))
    failpoint.activate("")
    (note,) = s.rows(main, "stray")
    is_known = point == "storage.before_commit"  # it could still say that nothing will come of it
    assert (note["turn_id"], bool(note["is_staged"])) == (s.turn_id(1), not is_known)
    s.write(main, s.end(told(1)))
    assert empty(main) == {"gone": int(is_known), "left": 0}  # the others may still come back
    gone = empty(main, now_us=note["at_us"] + strays.LAPSE_US + 1)["gone"]
    assert gone == (point == "residence.after_write")
    assert (blobs(main), s.rows(main, "stray")) == ([s.turn_id(1)], [])
    assert read(main).output == f"{CANARY} output"


def test_a_writer_that_took_too_long_begins_again(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    settle, given_up = strays.settle, []

    def late_settle(connection: Any, used: set[str], unused: set[str]) -> bool:
        if not given_up:
            given_up.append(connection.execute(update(tables.stray).values(is_staged=False)).rowcount)
        return settle(connection, used, unused)

    monkeypatch.setattr(strays, "settle", late_settle)
    with pytest.raises(DatabaseUnavailable):
        s.write(main, s.end(told(1)))
    assert s.rows(main, "trace") == []
    s.write(main, s.end(told(1)))
    assert read(main).output == f"{CANARY} output"


# --- what makes data smaller ----------------------------------------------------------------------------------------


def test_an_erased_person_is_gone_from_the_store(main: Database) -> None:
    s.write(main, s.end(told(1)), s.end(told(2)), s.end(told(3, user_id="bob", session_id="b")))
    with main.stores[EU].write() as c:  # of a turn of hers, but nothing points to it
        c.execute(blob.insert().values(id="f" * 32, turn_id=s.turn_id(1), codec=0, size=2, data=b"{}"))
    for item in told(3).observations:
        assert item.user_id == "anna"  # a step of hers in Bob's turn: it goes, too
    receipt = erase(main)
    assert receipt.is_finished
    assert receipt.verification["remaining"] == {}
    assert (blobs(main), s.rows(main, "stray"), s.rows(main, "content")) == ([], [], [])
    s.write(main, s.end(told(1)))  # replayed
    s.write(main, late(2, "output", output=f"{CANARY} late"))
    empty(main)
    assert blobs(main) == []


def test_no_receipt_says_verified_while_a_store_is_away(main: Database) -> None:
    s.write(main, s.end(told(1)))
    with Away(main):
        receipt = erase(main)
        assert not receipt.is_finished
        assert s.rows(main, "trace") == []
        assert job.erase(main, keys=RING) == {"finished": 0, "left": 1}
    assert len(blobs(main)) == 1
    assert job.erase(main, keys=RING) == {"finished": 1, "left": 0}
    assert blobs(main) == []


def test_no_receipt_says_verified_in_a_process_that_does_not_know_the_store(main: Database, database: Database) -> None:
    s.write(main, s.end(told(1)))
    assert not erase(database).is_finished
    assert UNREADABLE not in str(s.rows(database, "trace"))
    assert job.erase(main, keys=RING)["finished"] == 1
    assert blobs(main) == []


def test_an_erasure_waits_for_a_writer_that_is_at_the_store(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    _dying(monkeypatch)
    failpoint.activate("residence.after_write=raise")
    with pytest.raises(failpoint.FailPointReached):
        s.write(main, s.end(told(1)))
    failpoint.activate("")
    assert not erase(main).is_finished
    s.write(main, s.end(told(1)))  # it begins again, and is refused
    (note,) = s.rows(main, "stray")
    empty(main, now_us=note["at_us"] + strays.LAPSE_US + 1)
    assert job.erase(main, keys=RING)["finished"] == 1
    assert (blobs(main), s.rows(main, "trace")) == ([], [])


def test_a_writer_overtaken_by_an_erasure_leaves_nothing(main: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the blobs and the transaction that would have pointed to them."""
    asked: list[Any] = []

    def erase_meanwhile(name: str) -> None:
        if name == "residence.after_write" and not asked:
            asked.append(erase(main))

    monkeypatch.setattr("turntrace.storage.staging.reach", erase_meanwhile)
    s.write(main, s.end(told(1)))
    assert not asked[0].is_finished
    assert s.rows(main, "trace") == []
    assert job.erase(main, keys=RING)["finished"] == 1
    assert (blobs(main), s.rows(main, "stray"), s.loss(main)) == ([], [], {"erased": 1})


def test_a_writer_that_gives_up_while_an_erasure_looks_is_waited_for(
    main: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dying(monkeypatch)
    failpoint.activate("residence.after_write=raise")
    with pytest.raises(failpoint.FailPointReached):
        s.write(main, s.end(told(1)))
    failpoint.activate("")
    clear = strays.clear

    def give_up_after(database: Database, *of: Any, deadline: float) -> bool:
        is_clear = clear(database, *of, deadline=deadline)
        database.transact(strays.settle, set(), {row["blob_id"] for row in s.rows(main, "stray")})
        return is_clear

    monkeypatch.setattr(strays, "clear", give_up_after)
    assert erase(main).is_finished
    assert (blobs(main), s.rows(main, "stray")) == ([], [])


def test_writers_racing_an_eraser_leave_nothing(main: Database) -> None:
    for n in range(8):
        numbers, user = (2 * n + 1, 2 * n + 2), f"user-{n}"
        has_begun = threading.Event()

        def write(numbers: tuple[int, int] = numbers, user: str = user, begun: threading.Event = has_begun) -> None:
            for number in numbers:
                steps = (s.generation(number, 1, user_id=user),)
                s.write(main, s.end(told(number, user_id=user, session_id=user, observations=steps)))
                begun.set()
                s.write(main, late(number, "output", output=f"{CANARY} late"))

        writer = threading.Thread(target=write)
        writer.start()
        has_begun.wait(30)
        target = Target(kind="subject", user_ids=(user,))
        receipt = job.erase_at_once(main, target, RING, actor="test")
        if receipt.is_finished:
            assert blobs(main) == []
        writer.join()
        job.erase(main, keys=RING)
        empty(main)
        assert (blobs(main), s.rows(main, "stray"), s.rows(main, "trace")) == ([], [], [])
        with main.read() as c:
            assert receipts.get(c, str(receipt.id)).is_finished


def test_the_hosts_transaction_decides(main: Database) -> None:
    s.write(main, s.end(told(1)))
    engine = create_engine(main.url)
    with engine.connect() as connection:
        job.erase_online(connection, ANNA, actor="test")
        connection.rollback()
    empty(main)
    assert read(main).output == f"{CANARY} output"
    with engine.begin() as connection:
        receipt = job.erase_online(connection, ANNA, actor="test")
    assert not receipt.is_finished
    engine.dispose()
    assert job.erase(main, keys=RING)["finished"] == 1
    assert blobs(main) == []


@pytest.mark.parametrize("rules", ["content=30,numbers=400", "content=30,numbers=60"])
def test_retention_reaches_the_store(main: Database, tmp_path: Path, rules: str) -> None:
    s.write(main, s.end(told(1)), s.end(told(2, started_at_us=s.T0 + 70 * DAY_US)))
    at_us = s.T0 + 80 * DAY_US
    home = str(tmp_path / "archive")

    def run() -> Any:
        return retain(main, rules=parsed(rules), archive_dir=home, wall=lambda: at_us)

    with Away(main), pytest.raises(DatabaseUnavailable):
        run()  # what cannot be archived is not deleted
    run()
    lines = b"".join(path.read_bytes() for path in Archive(Path(home)).files())
    assert f"{CANARY} output".encode() in lines
    with Away(main):
        assert empty(main) == {"gone": 0, "left": 1}
    assert empty(main) == {"gone": 1, "left": 0}
    assert blobs(main) == [s.turn_id(2)]
    assert read(main, 2).output == f"{CANARY} output"


def test_a_turn_that_sampling_lets_go_leaves_its_store(main: Database) -> None:
    s.write(main, s.end(s.trace(1, environment=EU, keep_reason="held")))
    always = sampling.Always(slow_us=10_000_000, costly_nano=10**9, tokens=50_000)
    main.transact(sampling.settle, always=always, stored_before_us=s.NOW + 1, limit=10, now_us=s.NOW + 1)
    assert s.rows(main, "trace") == []
    assert empty(main) == {"gone": 1, "left": 0}


def test_blobs_are_sealed_and_sealed_anew(main: Database, database: Database, store_url: URL) -> None:
    old, new = "old " * 10, "new " * 10
    s.write(main, s.end(told(1)))  # in clear
    sealing = _opened(database, store_url, secret_key=old, encrypt_content=True)
    s.write(sealing, s.end(told(2)))
    assert _keys(main) == [None, KeyRing.from_settings(Settings(secret_key=old), None).current_id]
    both = _opened(database, store_url, secret_key=f"{new},{old}", encrypt_content=True)
    assert list(rotate(both, now_us=s.NOW))[-1]["blob"] == 2
    assert set(_keys(main)) == {KeyRing.from_settings(Settings(secret_key=new), None).current_id}
    assert (read(both).output, read(both, 2).output) == (f"{CANARY} output", f"{CANARY} output")
    assert UNREADABLE in read(sealing, 2).flags
    for each in (sealing, both):
        each.close()


def _keys(main: Database) -> list[str | None]:
    with main.stores[EU].read() as c:
        return list(c.execute(select(blob.c.key_id).order_by(blob.c.turn_id)).scalars())


# --- who reads ------------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_the_api_answers_it_and_a_copy_has_it(main: Database) -> None:
    s.write(main, s.end(told(1)))
    with main.write() as c:
        key = keys.create(c, name="test", scopes=("read",), now_us=s.NOW).key
    context = ApiContext(
        settings=Settings(),
        database=main,
        loss=lambda: Loss(accepted=1, stored=1, sampled=0, dropped={}),
        redact_text=lambda text: text,
    )
    headers = {"Authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(api.build(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=headers) as client:
        answer = await client.get(f"/traces/{s.turn_id(1)}")
        assert f"{CANARY} said" in answer.text
        with Away(main):
            answer = await client.get(f"/traces/{s.turn_id(1)}")
            assert (answer.status_code, CANARY in answer.text, UNREADABLE in answer.text) == (200, False, True)
    assert f"{CANARY} said" in str(list(portability.records(main, ("anna",))))


def test_the_audit_log_is_told_where_content_lies() -> None:
    url = f"{EU}=postgresql://me:sesame@eu.example/x,staging=sqlite:///texts.db"
    assert declared(Settings(content_urls=url))["content_urls"] == [f"{EU} eu.example", "staging a file"]
    assert declared(Settings())["content_urls"] is None


@pytest.mark.parametrize(
    ("url", "what"), [("sqlite://", "memory"), ("oracle://me:sesame@eu.example/x", "oracle is not supported")]
)
def test_a_url_that_is_of_no_use_is_said_to_be_that_of_its_store(url: str, what: str) -> None:
    with pytest.raises(SettingsError, match=rf"^content_urls, {EU}: .*{what}") as refused:
        open_database(Settings(content_urls={EU: url}))  # type: ignore[arg-type]
    assert "sesame" not in str(refused.value)
    assert "database_url" not in str(refused.value)


def test_the_url_of_the_main_database_is_said_to_be_its_own() -> None:
    with pytest.raises(SettingsError, match="^database_url: oracle"):
        open_database(Settings(database_url="oracle://me:sesame@eu.example/x"))  # type: ignore[arg-type]


def test_the_doctor_looks_at_stores(main: Database, store_url: URL) -> None:
    def said(urls: dict[str, str]) -> dict[str, str]:
        found = examine(Settings(database_url=_text(main.url), content_urls=urls))
        return {finding.text: finding.level for finding in found if finding.text.startswith("content of")}

    there, judges = {EU: _text(store_url)}, {"turntrace-evaluation": "postgresql+psycopg://me:sesame@127.0.0.1:1/x"}
    found = said(there)
    assert sorted(found.values()) == ["ok", "warning"]
    assert f"content of {EU}: {main.stores[EU].name} is reached and has its table" in found
    s.write(main, s.end(told(1)))
    main.transact(strays.drop_contents, [s.turn_id(1)])
    assert sorted(said(judges).values()) == ["error", "error"]
    assert "sesame" not in repr(said(judges))


def test_the_table_of_a_store_is_made_by_command_and_its_lack_is_said(database: Database, store_url: URL) -> None:
    blank = _opened(database, store_url)
    with pytest.raises(Exception, match="db upgrade"):
        residence.look(blank.stores[EU])
    migrate.upgrade(blank)
    migrate.upgrade(blank)
    residence.look(blank.stores[EU])
    with blank.stores[EU].read() as c:
        assert c.execute(select(func.count()).select_from(blob)).scalar_one() == 0
    blank.close()
