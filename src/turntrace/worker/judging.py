"""The recorder of the worker's own turns: runs of judges, in an environment of their own, through the spool."""

from collections.abc import MutableMapping
from typing import Protocol

from turntrace.records.evaluator import EVALUATION
from turntrace.records.fragment import FrameKind
from turntrace.settings import Settings
from turntrace.spool.counters import FAULT, Counters
from turntrace.tracing.guard import Guard
from turntrace.tracing.recorder import Resource
from turntrace.tracing.turn import Turn


class Appends(Protocol):
    """A spool on disk or in memory."""

    counters: Counters

    def append(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool: ...


class JudgeRecorder:
    """See `tracing.recorder.Recorder`. Each run is one short turn: nothing is written before its end."""

    def __init__(self, settings: Settings, spool: Appends) -> None:
        self.settings, self._spool = settings, spool
        self.guard = Guard(enabled=settings.enabled, on_fault=self.count_fault)
        self.resource = Resource(service_name=settings.service_name, environment=EVALUATION, release=settings.release)
        self.open_turns: MutableMapping[str, Turn] = {}

    def write(self, kind: FrameKind, payload: bytes, *, is_first: bool) -> bool:
        """Append one frame."""
        return self._spool.append(kind, payload, is_first=is_first)

    def count_fault(self, seam: str) -> None:
        """A fault of ours, for the System page."""
        self._spool.counters.add(f"{FAULT}{seam}")

    def note_turn(self, overhead_ns: int) -> None:
        """Runs of judges are no requests of the host: their overhead is nobody's."""
