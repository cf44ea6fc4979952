"""A database near its limit gets no texts, one at its limit no turns; both pass when there is room again."""

import pytest

from turntrace.errors import StorageFull
from turntrace.pipeline.mode import FULL, METADATA, Modes
from turntrace.settings import Settings
from turntrace.storage import meter
from turntrace.storage.database import Database
from turntrace.worker.capacity import LOOK_SECONDS, Capacity


def test_a_full_database_is_not_written_to(database: Database) -> None:
    with database.read() as connection:
        used = meter.used_bytes(connection)
    assert used
    modes, now = Modes(Settings()), [0.0]

    def guard(limit: int) -> Capacity:
        return Capacity(database, limit, modes, clock=lambda: now[0])

    guard(0).refresh()
    guard(used * 10).refresh()
    assert modes.most == FULL
    guard(int(used / 0.95)).refresh()
    assert modes.most == METADATA
    full = guard(used // 2)
    for _ in range(2):
        with pytest.raises(StorageFull, match="storage_max_bytes"):
            full.refresh()
    full._limit = used * 10
    with pytest.raises(StorageFull):
        full.refresh()
    now[0] += LOOK_SECONDS
    full.refresh()
    assert modes.most == FULL
