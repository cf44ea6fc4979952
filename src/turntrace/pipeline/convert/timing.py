"""Times to a first token or chunk, from the events of a span."""

from turntrace.pipeline.draft import Draft


def since_start(draft: Draft, *names: str) -> int | None:
    """Microseconds from the span's start to its first event of one of these names."""
    first = min((event.at_us for event in draft.span.events if event.name in names), default=None)
    return None if first is None else max(0, first - draft.started_at_us)
