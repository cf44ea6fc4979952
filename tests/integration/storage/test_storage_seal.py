"""Content encrypted at rest: nothing readable in any table, readable again with the keys, and only with them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Text, select, type_coerce, update

from tests.integration.panel.scene import scene, store
from turntrace.errors import KeyMissing, SettingsError
from turntrace.keyring import KeyRing
from turntrace.records.batch import Batch, Worked
from turntrace.records.filter import TraceFilter
from turntrace.records.fragment import FrameKind
from turntrace.records.score import Score
from turntrace.settings import Settings
from turntrace.storage import audit, evaluators, scores, seal, sealing, tables
from turntrace.storage.batches import write_batch
from turntrace.storage.database import Database
from turntrace.storage.opening import cipher_of
from turntrace.storage.queries.scores import list_scores
from turntrace.storage.queries.traces import count_traces, find_traces, list_traces
from turntrace.storage.rotation import rotate, secret_tables

NOW = 1_795_200_000_000_000
OLD, NEW = "old " * 10, "new " * 10
WORDS = ("descale", "vinegar", "Rate limit", "secret", "Be brief", "Traceback")


def _as(database: Database, **settings: Any) -> Database:
    """The same database as another process would open it."""
    found = Database(database.url)
    found.cipher = cipher_of(Settings(**settings))
    return found


@pytest.fixture
def sealed(database: Database) -> Iterator[Database]:
    """A database with encryption on, and some turns and scores in it."""
    found = _as(database, secret_key=OLD, encrypt_content=True)
    _fill(found, seed=7)
    yield found
    found.close()


def _fill(database: Database, *, seed: int) -> None:
    traces = [replace(item, scores=()) for item in scene(NOW, turns=14, seed=seed)]
    store(database, traces, NOW)
    for kind, value in (("text", "a secret"), ("correction", "better secret"), ("categorical", "good")):
        made = Score(id=f"{kind}{seed}", name=kind, value=value, data_type=kind, source="human", turn_id=traces[0].id,
                     comment="secret comment", metadata={"why": "secret"})  # fmt: skip
        database.transact(scores.upsert, made, now_us=NOW)


def _stored(database: Database) -> str:
    """Every byte that the tables hold, as it is stored."""
    pieces = []
    with database.read() as c:
        for table in (tables.trace, tables.observation, tables.score):
            columns = [type_coerce(item, Text()) if isinstance(item.type, seal.Sealed) else item for item in table.c]
            pieces += [repr(tuple(row)) for row in c.execute(select(*columns))]
        for row in c.execute(select(tables.content)):
            pieces.append(f"{row.key_id} {bytes(row.data)!r}")
            pieces.append(repr(_inflated(row.codec, bytes(row.data))))
    return "\n".join(pieces)


def _inflated(codec: int, data: bytes) -> Any:
    from turntrace.storage.content import unpack

    try:
        return unpack(codec, data)
    except ValueError:
        return None


def _read(database: Database) -> str:
    with database.read() as c:
        page = list_traces(c, limit=50)
        return repr([page, *(find_traces(c, item.id) for item in page.items), list_scores(c)])


def test_nothing_of_a_text_is_in_the_tables_and_all_of_it_comes_back(sealed: Database, database: Database) -> None:
    stored, shown = _stored(sealed), _read(sealed)
    assert not [word for word in WORDS if word in stored]
    assert not [word for word in WORDS if word not in shown]
    assert "good" in stored  # a category is a number of sorts: it stays searchable
    # A late fragment joins its turn, of which what was sealed is opened and sealed again.
    with sealed.read() as c:
        turn = list_traces(c, limit=1).items[0]
    late = replace(turn, observations=(), output="a late secret", output_preview="a late secret", scores=())
    fragment = Worked(kind=FrameKind.AMEND, trace=late, amended=frozenset({"output", "output_preview"}))
    write_batch(sealed, Batch(worked=(fragment,)), now_us=NOW)
    assert "late secret" not in _stored(sealed)
    with sealed.read() as c:
        (again,) = find_traces(c, turn.id)
        assert again.output == "a late secret"
        assert "descale" in repr(again.input) + repr(again.observations)
        # What is sealed cannot be searched; names, ids and categories can.
        assert count_traces(c, TraceFilter(q="descale")) == 0
        assert count_traces(c, TraceFilter(q="POST")) == 14
        assert count_traces(c, TraceFilter(score="categorical=good")) == 1
    # Without the key nothing is readable, and nothing fails.
    for other in (database, _as(database, secret_key=NEW)):
        blind = _read(other)
        assert not [word for word in WORDS if word in blind]
        assert "content_unreadable" in blind
        assert seal.UNREADABLE in blind
        if other is not database:
            other.close()


def test_rotation_seals_everything_anew_and_back(sealed: Database, database: Database) -> None:
    database.cipher = None
    _fill(database, seed=8)  # in clear, as before encryption was switched on
    both = _as(database, secret_key=f"{NEW},{OLD}", encrypt_content=True)
    done = list(rotate(both, now_us=NOW))[-1]
    assert done["content"] == 28
    assert done["score"] == 6
    assert list(rotate(both, now_us=NOW))[-1] == dict.fromkeys(done, 0)
    only_new = _as(database, secret_key=NEW, encrypt_content=True)
    assert not [word for word in WORDS if word in _stored(only_new)]
    assert not [word for word in WORDS if word not in _read(only_new)]
    off = _as(database, secret_key=NEW)
    assert not [word for word in WORDS if word not in _read(off)]
    list(rotate(off, now_us=NOW))
    assert not [word for word in WORDS if word not in _stored(off)]
    with off.read() as c:
        assert [item.action for item in audit.list_entries(c)][:3] == ["keys.rotate"] * 3
    for opened in (both, only_new, off):
        opened.close()


def test_rotation_seals_the_keys_of_judges_anew(database: Database) -> None:
    old, new = (KeyRing([text.encode()], is_explicit=True) for text in (OLD, NEW))
    both = KeyRing([NEW.encode(), OLD.encode()], is_explicit=True)
    lost = KeyRing([b"lost" * 10], is_explicit=True)
    definition = {"name": "judge", "kind": "check"}
    with database.write() as c:
        named: dict[str, Any] = {"is_enabled": False, "author": None, "now_us": NOW}
        made = evaluators.create(c, definition, sealed=sealing.seal(old, "sk-1"), **named)
        for number, key in enumerate((sealing.seal(lost, "sk-0"), None, sealing.seal(old, "sk-2")), 1):
            source = {**definition, "n": number}
            evaluators.revise(c, made.id, source, sealed=key, **named)
    done = list(rotate(database, now_us=NOW, keys=both))[-1]
    assert (done["evaluator_version.sealed"], done["unreadable"]) == (2, 1)
    with database.read() as c:
        column = tables.evaluator_version.c
        keys = [row[0] for row in c.execute(select(column.sealed).order_by(column.version))]
    assert [sealing.unseal(new, keys[place]) for place in (0, 3)] == ["sk-1", "sk-2"]
    assert keys[2] is None
    assert list(rotate(database, now_us=NOW, keys=both))[-1]["evaluator_version.sealed"] == 0


def test_every_column_that_keys_seal_is_known_to_the_rotation() -> None:
    """What names a key, or is named after sealing; pieces received over OTLP go within hours, and keep theirs."""
    named = {
        table.name.removeprefix(tables.PREFIX)
        for table in tables.metadata.sorted_tables
        if {"key_id", "sealed"} & set(table.c.keys())
    }
    known = {table.name.removeprefix(tables.PREFIX) for table in (tables.content, *secret_tables())}
    assert named == known | {"received"}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_rotation_without_the_old_key_changes_nothing(sealed: Database, database: Database) -> None:
    other = _as(database, secret_key=NEW, encrypt_content=True)
    with pytest.raises(KeyMissing):
        list(rotate(other, now_us=NOW))
    assert not [word for word in WORDS if word not in _read(sealed)]
    other.close()


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_blob_of_another_turn_does_not_open(sealed: Database) -> None:
    c = tables.content.c
    with sealed.write() as connection:
        first, second = connection.execute(select(c.turn_id, c.data).order_by(c.turn_id).limit(2)).all()
        connection.execute(update(tables.content).where(c.turn_id == first.turn_id).values(data=second.data))
    with sealed.read() as connection:
        (turn,) = find_traces(connection, first.turn_id)
    assert "content_unreadable" in turn.flags
    assert turn.input is None


class Vault:
    """A KMS, as far as we ask one."""

    def __init__(self) -> None:
        self.keys = {"k1": os.urandom(32)}
        self.current = "k1"
        self.asked = 0

    def __call__(self, key_id: str | None) -> tuple[str, bytes]:
        self.asked += 1
        found = key_id or self.current
        return found, self.keys[found]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_keys_may_come_from_a_kms(database: Database) -> None:
    vault = Vault()
    kept = _as(database, content_keys=vault, encrypt_content=True)
    _fill(kept, seed=7)
    assert vault.asked == 1
    assert not [word for word in WORDS if word in _stored(kept)]
    vault.keys["k2"], vault.current = os.urandom(32), "k2"
    later = _as(database, content_keys=vault, encrypt_content=True)
    assert not [word for word in WORDS if word not in _read(later)]
    list(rotate(later, now_us=NOW))
    with later.read() as c:
        assert set(c.execute(select(tables.content.c.key_id)).scalars()) == {"k2"}
    del vault.keys["k1"]
    assert not [word for word in WORDS if word not in _read(later)]
    kept.close()
    later.close()


def test_settings_that_cannot_work_are_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="secret_key"):
        Settings(encrypt_content=True)
    with pytest.raises(SettingsError, match="imported"):
        Settings(encrypt_content=True, content_keys=Vault()).wire()
    assert Settings(content_keys=seal.of_ring, encrypt_content=True).wire()["content_keys"].endswith("seal:of_ring")
    cipher = seal.Cipher(lambda _: ("far too long an id", b"x" * 32), is_writing=True)
    with pytest.raises(SettingsError, match="content_keys"):
        cipher.seal_text("text")
    ring = KeyRing.from_settings(Settings(secret_key=OLD), None)
    assert seal.Cipher(seal.of_ring(ring), is_writing=True).current_id == ring.current_id
