from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.context import Context, attach, detach

from turntrace import Turntrace
from turntrace.records.fragment import FrameKind
from turntrace.spool.memory import MemorySpool


class Recording:
    """A Turntrace whose frames are read back instead of being stored."""

    def __init__(self, tt: Turntrace) -> None:
        self.tt = tt

    def every_turn(self) -> list[dict[str, Any]]:
        """Ended turns in the order of their starts: the header, and under `steps` their spans by name."""
        spool: Any = self.tt.recorder.spool
        found = []
        for frame in spool.poll(10_000, 1 << 30):
            if frame.kind is FrameKind.END:
                document = orjson.loads(frame.payload)
                steps = {span["name"]: span for span in document.get("spans", ())}
                found.append({**document["turn"], "steps": steps})
        spool.rewind()
        return sorted(found, key=lambda turn: turn["started_at_us"])

    def turns(self) -> dict[str, dict[str, Any]]:
        """The same by name."""
        return {turn["name"]: turn for turn in self.every_turn()}


ALL = ("session.id", "user.id", "feature", "experiment", "tags")
WHO = {"session_id": "s 1", "user_id": "ü-1", "feature": "search", "experiment": "b", "tags": ["plan:pro", "a,b%"]}


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """Its spool is in memory, and no worker takes anything out of it."""
    tt = Turntrace(
        database_url=f"sqlite:///{tmp_path / 'turntrace.db'}",
        spool_dir=str(tmp_path / "spool"),
        worker="external",
        secret_key="k" * 32,
        propagate_keys=ALL,
        baggage_keys=ALL,
        propagate_hosts=("127.0.0.1",),
    )
    tt.start()
    tt.recorder._spool = MemorySpool()
    yield Recording(tt)
    tt.shutdown()


@pytest.fixture(autouse=True)
def outside_any_turn() -> Iterator[None]:
    """Whatever a test before this one left current in OpenTelemetry's context of this thread."""
    token = attach(Context())
    yield
    detach(token)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
