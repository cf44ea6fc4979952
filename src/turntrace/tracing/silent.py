"""The observation that records nothing: switched off, suspended, full, or outside any turn without a recorder."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

from turntrace.tracing import field
from turntrace.tracing.span import Span


class SilentSpan(Span):
    """What the host gets where nothing is recorded: checks its arguments, and keeps nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        """Nothing is initialised: no method of the class above runs but those that are replaced here."""

    def __enter__(self) -> "SilentSpan":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def update(self, **fields: Any) -> None:
        """Check the fields as `Span.update` does."""
        field.check_observation(fields)

    def first_token(self) -> None:
        """Nothing is kept."""

    def fail(self, error: BaseException) -> None:
        """Nothing is kept."""

    def end(self, end_time: int | None = None) -> None:
        """Nothing is kept."""

    def get_span_context(self) -> SpanContext:
        """The context of whatever span is current; of none where somebody has made this one current."""
        span = trace.get_current_span()
        return (trace.INVALID_SPAN if span is self else span).get_span_context()

    def is_recording(self) -> bool:
        """Never."""
        return False

    def set_attribute(self, key: str, value: Any) -> None:
        """Nothing is kept."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Nothing is kept."""

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Nothing is kept."""

    def update_name(self, name: str) -> None:
        """Nothing is kept."""

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Nothing is kept."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Nothing is kept."""

    def __repr__(self) -> str:
        return "<SilentSpan>"


SILENT: Final = SilentSpan()
