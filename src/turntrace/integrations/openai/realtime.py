"""Sessions of the realtime API: every response in one is an observation, from its first event to its last.

What is said goes as audio over a socket that the application reads by itself; seen are the provider's events, where the
client parses them. Recorded are model, usage, transcript, tool calls and how a response ended, not what was asked.
"""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from turntrace.integrations.openai.answer import answer_fields
from turntrace.integrations.openai.others import is_described
from turntrace.integrations.openai.provider import DEFAULT
from turntrace.integrations.openai.reading import get, listed, text
from turntrace.integrations.openai.usage import usage_of
from turntrace.tracing import field
from turntrace.tracing.observation import open_observation
from turntrace.tracing.recorder import fault
from turntrace.tracing.silent import SILENT
from turntrace.tracing.span import Span

SCOPE: Final = "turntrace.openai"
_MOST_OPEN: Final = 16  # responses of one session that go on at once
_sessions: Final["weakref.WeakKeyDictionary[Any, Session]"] = weakref.WeakKeyDictionary()


class Session:
    """One connection: its model, and the responses that are under way."""

    __slots__ = ("_model", "_open")

    def __init__(self) -> None:
        self._model: str | None = None
        self._open: dict[Any, Span] = {}

    def take(self, event: Any) -> None:
        """One event of the provider."""
        kind = str(get(event, "type"))
        if kind in ("session.created", "session.updated"):
            self._model = text(get(event, "session", "model")) or self._model
        elif kind == "response.created":
            self._begin(get(event, "response", "id"))
        elif kind == "response.done":
            self._finish(get(event, "response"))
        elif kind.startswith("response.") and kind.endswith(".delta"):
            span = self._open.get(get(event, "response_id"))
            if span is not None:
                span.first_token()

    def close(self) -> None:
        """The session is over: what was under way is incomplete."""
        for span in [*self._open.values()]:
            span.update(level="warning", metadata={"incomplete": "left"})
            span.end()
        self._open.clear()

    def _begin(self, response_id: Any) -> Span | None:
        if is_described() or len(self._open) >= _MOST_OPEN:
            return None
        model = self._model
        stated = {"type": "generation", "model": model, "model_requested": model, "provider": DEFAULT}
        own = field.check_observation({name: value for name, value in stated.items() if value is not None})
        span = open_observation(None, f"realtime {model}" if model else "realtime", own)
        if span is SILENT:
            return None
        span.scope = SCOPE
        self._open[response_id] = span
        return span

    def _finish(self, response: Any) -> None:
        response_id = get(response, "id")
        span = self._open.get(response_id) or self._begin(response_id)
        if span is None:
            return
        self._open.pop(response_id, None)
        span.is_whole = True
        span.update(**_fields(response))
        span.end()


def _fields(response: Any) -> dict[str, Any]:
    """Arguments of `update` for a response that is over."""
    found = answer_fields("response", response)
    messages = [_said(item) for item in listed(get(response, "output"))]
    usage = usage_of(get(response, "usage"))
    status = text(get(response, "status"))
    reason = text(get(response, "status_details", "reason"))
    found["output"] = [message for message in messages if message] or found.get("output")
    if usage is not None:
        found["usage"] = usage
    if status is not None and status != "completed":
        found["finish_reasons"] = [reason or status]
    if status == "failed":
        code = text(get(response, "status_details", "error", "code")) or text(
            get(response, "status_details", "error", "type")
        )
        found |= {"level": "error", "status_message": code or "failed"}
    return {name: value for name, value in found.items() if value is not None}


def _said(item: Any) -> dict[str, Any] | None:
    """An item as a message: text, or the transcript of what was spoken; calls are told by `answer_fields`."""
    parts = listed(get(item, "content"))
    spoken = [text(get(part, "text")) or text(get(part, "transcript")) for part in parts]
    words = [part for part in spoken if part]
    if get(item, "type") == "message":
        return {"role": text(get(item, "role")) or "assistant", "content": "\n".join(words) or None}
    if get(item, "type") == "function_call":
        call = {"id": get(item, "call_id"), "name": get(item, "name"), "arguments": get(item, "arguments")}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return None


def watched(original: Callable[..., Any]) -> Callable[..., Any]:
    """`parse_event` of a connection: every event is looked at, and passed on as it is."""

    @wraps(original)
    def parse_event(self: Any, *args: Any, **kwargs: Any) -> Any:
        event = original(self, *args, **kwargs)
        try:
            _session(self).take(event)
        except Exception as exc:
            fault(None, "openai.realtime", exc)
        return event

    return parse_event


def _session(connection: Any) -> Session:
    found = _sessions.get(connection)
    if found is None:
        found = _sessions[connection] = Session()
        weakref.finalize(connection, _close, found).atexit = False
    return found


def _close(session: Session) -> None:
    try:
        session.close()
    except Exception as exc:
        fault(None, "openai.realtime", exc)


def closing(original: Callable[..., Any]) -> Callable[..., Any]:
    """`close` of a connection, synchronous or not: counted when it is called."""

    @wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = _sessions.get(self)
            if found is not None:
                _close(found)
        except Exception as exc:
            fault(None, "openai.realtime", exc)
        return original(self, *args, **kwargs)

    return close
