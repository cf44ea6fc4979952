"""The turn's own span, for the API of OpenTelemetry."""

from typing import TYPE_CHECKING, Any

from turntrace import semconv
from turntrace.tracing.span import MAX_ATTRIBUTES, Span

if TYPE_CHECKING:
    from turntrace.tracing.turn import Turn


class RootSpan(Span):
    """The turn's own span, current where no observation is. Attributes set on it tell about the turn."""

    __slots__ = ()

    def __init__(self, turn: "Turn") -> None:
        # Not the initialiser above: most of what it sets is asked of no turn's own span.
        self.turn = turn
        self.own = None
        self.trace_id = turn.trace_id
        self.span_id = turn.span_id
        self.duration_us = None
        self._previous = None

    @property
    def name(self) -> str:
        """The turn's."""
        return self.turn.name

    def set_attribute(self, key: str, value: Any) -> None:
        """`session.id` and `user.id` name the turn's session and user; everything else is metadata of the turn."""
        try:
            if value is not None and not self.turn.is_finished:
                self._set_attribute(self.turn, key, value)
        except Exception as exc:
            self.turn.recorder.guard.fault("root.set_attribute", exc)

    def _set_attribute(self, turn: "Turn", key: str, value: Any) -> None:
        if key == semconv.SESSION_ID:
            turn.session_id = str(value)
        elif key in (semconv.USER_ID, semconv.ENDUSER_ID):
            turn.user_id = str(value)
        elif len(turn.metadata) < MAX_ATTRIBUTES:
            turn.metadata = {**turn.metadata, key: self._attribute(value)}

    def update_name(self, name: str) -> None:
        """Rename the turn."""
        self.turn.name = name

    def end(self, end_time: int | None = None) -> None:
        """Whoever made the turn ends it."""

    def is_recording(self) -> bool:
        """Whether the turn is going on."""
        return not self.turn.is_finished
