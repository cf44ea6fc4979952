"""A recorder over a list, and a current turn."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import orjson
import pytest

from turntrace.records.fragment import FrameKind
from turntrace.settings import Settings
from turntrace.tracing.guard import Guard
from turntrace.tracing.recorder import Resource
from turntrace.tracing.turn import Turn, activate, deactivate


class ListRecorder:
    """Keeps frames as decoded JSON; `is_full` makes it refuse them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.guard = Guard(reraise=True)
        self.resource = Resource(service_name="test")
        self.open_turns: MutableMapping[str, Turn] = {}
        self.frames: list[tuple[FrameKind, bool, dict[str, Any]]] = []
        self.is_full = False

    def write(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        if not self.is_full:
            self.frames.append((kind, is_first, orjson.loads(payload)))
        return not self.is_full

    def kinds(self) -> list[str]:
        return [kind.name for kind, _, _ in self.frames]

    def last(self, kind: str) -> dict[str, Any]:
        return next(payload for name, _, payload in reversed(self.frames) if name.name == kind)

    def spans(self, kind: str = "END") -> dict[str, dict[str, Any]]:
        return {span["name"]: span for span in self.last(kind)["spans"]}


@pytest.fixture
def recorder() -> ListRecorder:
    return ListRecorder()


@pytest.fixture
def turn(recorder: ListRecorder) -> Iterator[Turn]:
    made = Turn(recorder, name="POST /chat", path="/chat")
    activation = activate(made)
    yield made
    deactivate(activation)
