"""One model call of a client as one observation: opened before the request, ended exactly once.

Nothing in here raises into the application: every step is guarded, and a fault of ours is counted.
"""

import inspect
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

import orjson

from turntrace.integrations.openai.answer import answer_fields
from turntrace.integrations.openai.growth import growth_of
from turntrace.integrations.openai.media import spoken_characters
from turntrace.integrations.openai.others import is_described
from turntrace.integrations.openai.provider import provider_of, states_usage_of_streams
from turntrace.integrations.openai.question import Question, question_of
from turntrace.integrations.openai.reading import get, text
from turntrace.integrations.openai.steps import StreamStepping, observe_stream
from turntrace.tracing import field
from turntrace.tracing.observation import open_observation
from turntrace.tracing.recorder import fault
from turntrace.tracing.silent import SILENT
from turntrace.tracing.span import Span
from turntrace.tracing.stepping import Stepping

SCOPE: Final = "turntrace.openai"
_RAW_HEADER: Final = "X-Stainless-Raw-Response"
_MOST_JSON: Final = 8 << 20  # bytes of a raw answer that are worth reading for its usage
_RATE_LIMITS: Final = (("limit", "limit"), ("remaining", "remaining"), ("reset_at", "reset"))
running: Final[ContextVar["Call | None"]] = ContextVar("turntrace.openai.call", default=None)


class Call:
    """One logical call, all its retries included."""

    __slots__ = ("_asked_for_usage", "_attached", "_is_ended", "_step", "question", "retries", "span", "token")

    def __init__(self, span: Span, question: Question) -> None:
        self.span = span
        self.question = question
        self.retries = 0
        self.token: Any = None
        self._attached: Any = None
        self._asked_for_usage = False
        self._is_ended = False

    # Around the request

    def ask_for_usage(self, client: Any, options: Any) -> None:
        """Have the provider state the usage of a streamed chat; the chunk it comes in is taken out again."""
        question, settings = self.question, self.span.turn.recorder.settings
        if not question.is_streamed_chat or question.wants_usage or _is_raw(options):
            return
        if states_usage_of_streams(client, settings.stream_usage_hosts):
            stated = question.body.get("stream_options") or {}
            # Only on this request: the caller's own dictionaries stay as they are.
            options.json_data = {**options.json_data, "stream_options": {**stated, "include_usage": True}}
            self._asked_for_usage = True

    def enter(self) -> None:
        """Make the observation current for the request."""
        self._step = Stepping(self.span, capture_output=False)
        self._attached = self._step.attach()
        self.token = running.set(self)

    def leave(self) -> None:
        """Put back what was current."""
        try:
            running.reset(self.token)
        except ValueError as error:  # left in another context than entered in
            self._fault("openai.leave", error)
        self._step.detach(self._attached)
        self.span.rested_ns = 0  # it was one step: nothing stands still

    # What comes of it

    def fail(self, error: BaseException) -> None:
        """The request raised: status, limits and, where the client refused an answer, its usage."""
        try:
            completion = get(error, "completion")  # of `LengthFinishReasonError`: the answer came, and costs
            if completion is not None:
                self.span.update(**answer_fields(self.question.kind, completion))
            self._note(_facts_of(get(error, "response"), get(error, "status_code")))
        except Exception as exc:
            self._fault("openai.fail", exc)
        self._end(error)

    def answer(self, given: Any) -> None:
        """The request returned: a whole answer, a stream, or a raw response."""
        try:
            if hasattr(given, "_iterator") and hasattr(given, "response"):
                self.observe(given)
            elif hasattr(given, "http_response") and hasattr(given, "parse"):
                self._observe_raw(given)
            else:
                self.take(given)
                self._end()
        except Exception as exc:
            self._fault("openai.answer", exc)
            self._end()

    def take(self, answer: Any) -> None:
        """Fill the observation from a whole answer."""
        question = self.question
        self.span.update(**answer_fields(question.kind, answer))
        characters = spoken_characters(question) if question.kind == "speech" else None
        if characters is not None:
            self.span.update(usage={"input_characters": characters})
        self._note({})

    def observe(self, stream: Any) -> None:
        """Follow a stream: it keeps its type, only the iterator inside it is ours from here on."""
        self._note({})
        growth = growth_of(self.question.kind, self.span.turn.field_limit)
        stepping = StreamStepping(self.span, growth, hides_usage=self._asked_for_usage)
        self._is_ended = True  # from here on the stepping ends it
        is_followed = False
        try:
            is_followed = observe_stream(stream, stepping)
        finally:
            if not is_followed:
                stepping.finish_as("unobserved")

    def _observe_raw(self, raw: Any) -> None:
        """A raw response: read at once where its body is here, else at its `parse()` or its end."""
        response = raw.http_response
        self.retries = max(self.retries, getattr(raw, "retries_taken", 0) or 0)
        if self.question.body.get("stream") is not True and self._take_body(response):
            self._end()
            return
        parse = raw.parse
        raw.parse = self._parsing(parse)
        self._watch_end(response)

    def _parsing(self, parse: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(parse):

            @wraps(parse)
            async def parsed_later(*args: Any, **kwargs: Any) -> Any:
                return self._parsed(await parse(*args, **kwargs))

            return parsed_later

        @wraps(parse)
        def parsed(*args: Any, **kwargs: Any) -> Any:
            return self._parsed(parse(*args, **kwargs))

        return parsed

    def _parsed(self, answer: Any) -> Any:
        try:
            if not self._is_ended:
                if hasattr(answer, "_iterator") and hasattr(answer, "response"):
                    self.observe(answer)
                else:
                    self.take(answer)
                    self._end()
        except Exception as exc:
            self._fault("openai.parse", exc)
        return answer

    def _watch_end(self, response: Any) -> None:
        """End with the response, whoever reads it: closed, or dropped."""
        for name in ("close", "aclose"):
            close = getattr(response, name, None)
            if close is not None:
                setattr(response, name, self._closing(name, close, response))
        weakref.finalize(response, self._end).atexit = False

    def _closing(self, name: str, close: Callable[..., Any], response: Any) -> Callable[..., Any]:
        reference = weakref.ref(response)
        was_closed = False

        def ended() -> None:
            # Reading a body to its end closes the response before the body is there: the next sign counts then.
            nonlocal was_closed
            found = reference()
            if self._is_ended or self._take_body(found) or was_closed:
                self._end()
                vars(found).pop(name, None)  # the class's own again: a cycle less
            was_closed = True

        if inspect.iscoroutinefunction(close):

            @wraps(close)
            async def closed_later() -> None:
                await close()
                ended()

            return closed_later

        @wraps(close)
        def closed() -> None:
            close()
            ended()

        return closed

    def _take_body(self, response: Any) -> bool:
        """Fill the observation from a body that has been read; False where it has not, or is no JSON."""
        try:
            body = get(response, "content")
        except Exception:  # it has not been read; how that is told differs between HTTP libraries
            return False
        try:
            if isinstance(body, bytes) and len(body) <= _MOST_JSON:
                self.take(orjson.loads(body))
            return isinstance(body, bytes)
        except orjson.JSONDecodeError:
            return False
        except Exception as exc:
            self._fault("openai.body", exc)
            return False

    def _note(self, facts: dict[str, Any]) -> None:
        if self.retries:
            facts["retries"] = self.retries
        if facts:
            self.span.update(metadata=facts)

    def _end(self, error: BaseException | None = None) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        if error is not None:
            self.span.fail(error)
        self.span.end()

    def _fault(self, seam: str, error: Exception) -> None:
        self.span.turn.recorder.guard.fault(seam, error)


def begin(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The observation of a request that is about to be sent; None where it is no model call, or not recorded.

    Args:
        args: those of `request`: what to cast the answer to, and the options.
    """
    try:
        options = kwargs["options"] if "options" in kwargs else args[1]
        question = question_of(get(options, "method"), get(options, "url"), get(options, "json_data"))
        if question is None or is_described():
            return None
        span = open_observation(None, question.name, field.check_observation(question.fields))
        if span is SILENT:
            return None
        span.scope = SCOPE
        call = Call(span, question)
    except Exception as exc:
        fault(None, "openai.begin", exc)
        return None
    _complete(call, client, options)
    return call


def _complete(call: Call, client: Any, options: Any) -> None:
    try:
        settings = call.span.turn.recorder.settings
        call.span.update(provider=provider_of(client, settings.provider_hosts))
        call.ask_for_usage(client, options)
    except Exception as exc:
        call.span.turn.recorder.guard.fault("openai.begin", exc)


def _is_raw(options: Any) -> bool:
    headers = get(options, "headers")
    return bool(headers.get(_RAW_HEADER)) if hasattr(headers, "get") else False


def _facts_of(response: Any, status: Any) -> dict[str, Any]:
    """Status and rate limits of a refused request."""
    facts: dict[str, Any] = {"http_status": status} if isinstance(status, int) else {}
    headers = get(response, "headers")
    if headers is None:
        return facts
    limits = {name: text(headers.get(f"x-ratelimit-{spelt}-requests")) for name, spelt in _RATE_LIMITS}
    if any(limits.values()):
        facts["rate_limit"] = limits
    asked = get(response, "request", "headers")
    retried = text(asked.get("x-stainless-retry-count")) if asked is not None else None
    if retried is not None and retried.isdecimal() and int(retried):
        facts["retries"] = int(retried)
    return facts
