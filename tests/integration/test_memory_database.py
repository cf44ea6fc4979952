"""A database in memory, however its URL is written: worker and panel of the process share the one there is."""

import pytest
from sqlalchemy import func, select

from turntrace import Turntrace
from turntrace.storage import tables


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite+pysqlite://", "sqlite+aiosqlite://"])
def test_what_the_worker_stores_the_panel_shows(url: str) -> None:
    tt = Turntrace(url, secret_key="k" * 32, redaction="off")
    try:
        with tt.turn("job"), tt.observation("step"):
            pass
        assert tt.flush(60)
        with tt.web.database.read() as connection:
            assert connection.execute(select(func.count()).select_from(tables.trace)).scalar() == 1
    finally:
        tt.shutdown()
