"""What was erased does not come back over OTLP, however often it is sent."""

from sqlalchemy import select

from tests.integration.otlp.inlet import Inlet, generation, request
from turntrace.jobs import erase
from turntrace.keyring import KeyRing
from turntrace.records.erasure import Target
from turntrace.storage import belonging, tables
from turntrace.storage.database import Database

KEYS = KeyRing([b"k" * 32], is_explicit=True)
TARGET = Target(kind="subject", user_ids=("anna",))


async def test_a_resend_of_an_erased_persons_spans_stores_nothing(database: Database) -> None:
    inlet = Inlet(database)
    sender = inlet.sender()
    hers = [generation(1, 1, **{"user.id": "anna", "session.id": "s1"}), generation(1, 2, 1)]
    await sender.send(request(*hers))
    inlet.work()
    assert sender.trace(f"{1:032x}") is not None
    receipt = erase.erase_at_once(database, TARGET, KEYS, actor="test")
    assert receipt.counts["received"] == 1
    for spans in (hers, hers[:1], hers[1:], [generation(2, 3, **{"user.id": "anna"})]):
        await sender.send(request(*spans))
        inlet.work()
    with database.read() as connection:
        for table in (tables.trace, *belonging.TURN_TABLES, tables.session):
            assert connection.execute(select(table)).all() == [], table.name
    found = inlet.loss()
    assert (found.accepted, found.stored, found.erased) == (2, 0, 2)
