"""Joins the tracer provider that a host has set for itself: a processor is added to it, once, and nothing else."""

import sys
from importlib import import_module
from typing import Any, Final

from turntrace.tracing.context import tracer_provider
from turntrace.tracing.provider import TurnSpanProcessor
from turntrace.tracing.recorder import Recorder

_LOGS: Final = "opentelemetry._logs._internal"


class HostProvider:
    """Watches for a tracer provider of the host; its spans then join the turns they began in.

    A provider can be set at any time, usually before the first request: `join` is cheap enough to be asked every turn.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seen: Any = None
        self._seen_logs: Any = None

    def join(self) -> bool:
        """Add our processor to the global provider, if that is the host's and not joined yet; whether it was added."""
        provider = tracer_provider()
        logs = sys.modules.get(_LOGS)  # who sets a logger provider has imported it
        if logs is not None and vars(logs).get("_LOGGER_PROVIDER") is not self._seen_logs:
            self._join_logs(vars(logs)["_LOGGER_PROVIDER"])
        if provider is self._seen:
            return False
        self._seen = provider
        # Our own provider has the method, too, and needs no processor; the API's placeholder has none.
        add = getattr(provider, "add_span_processor", None)
        if add is None or hasattr(provider, "turntrace_recorder"):
            return False
        add(TurnSpanProcessor(self._recorder))
        return True

    def _join_logs(self, provider: Any) -> None:
        """Add our processor to the host's logger provider: content that instrumentations log belongs to their spans."""
        self._seen_logs = provider
        add = getattr(provider, "add_log_record_processor", None)
        if add is not None:
            add(import_module("turntrace.tracing.logs").TurnLogProcessor(self._recorder))
