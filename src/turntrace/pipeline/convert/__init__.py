"""Raw spans of any instrumentation to typed drafts: a recogniser per dialect, decided span by span."""

from typing import Any

from turntrace.pipeline.assemble import Tree
from turntrace.pipeline.convert import own, plain
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.dialect import recognise
from turntrace.pipeline.convert.value import text
from turntrace.pipeline.convert.vector import without_vectors
from turntrace.pipeline.convert.vocabulary import error_type
from turntrace.pipeline.decode import INVALID_PREFIX
from turntrace.pipeline.draft import Draft
from turntrace.records.fragment import RawSpan
from turntrace.records.observation import ErrorInfo


def convert(tree: Tree) -> list[Draft]:
    """A draft of every kept span, in start order."""
    return [
        convert_span(span, tree.kept_parent(span_id))
        for span_id, span in tree.spans.items()
        if span_id not in tree.dropped
    ]


def convert_span(span: RawSpan, parent_span_id: str | None = None) -> Draft:
    """The draft of one span."""
    draft = Draft(
        span=span,
        parent_span_id=parent_span_id,
        name=span.name,
        started_at_us=span.started_at_us,
        duration_us=span.duration_us,
        status_message=span.status_message,
    )
    if span.attributes or span.own is None:
        _read_attributes(span, draft)
    if span.own is not None:
        draft.dialect = "turntrace"
        own.read(span.own, draft)
    if draft.type == "embedding" and isinstance(draft.output, (list, dict)):
        draft.output = without_vectors(draft.output)
    if span.error is not None or span.status == "error":
        _read_error(span, draft)
    if draft.ttft_us is not None and not 0 <= draft.ttft_us <= (draft.duration_us or draft.ttft_us):
        draft.ttft_us = None
    return draft


def _read_attributes(span: RawSpan, draft: Draft) -> None:
    bag = Bag(span.attributes)
    dialect = recognise(span)
    if dialect is not None:
        draft.dialect = dialect.name
        dialect.read(bag, draft)
    plain.read(bag, draft)
    if bag.rest:
        draft.metadata = {**bag.rest, **draft.metadata}
        for name in bag.rest:
            if name.startswith(INVALID_PREFIX):
                draft.flag(f"field_invalid:{name.removeprefix(INVALID_PREFIX)}")


def _read_error(span: RawSpan, draft: Draft) -> None:
    """Status and error from the exception, the exception event, or the attributes."""
    draft.status = "error"
    if draft.level == "default":
        draft.level = "error"
    stated: dict[str, Any] = dict(span.error or {})
    if not stated:
        event = next((event for event in reversed(span.events) if event.name == "exception"), None)
        if event is not None:
            stated = {
                "type": event.attributes.get("exception.type"),
                "message": event.attributes.get("exception.message"),
                "stack": event.attributes.get("exception.stacktrace"),
            }
    kind = error_type(stated.get("type")) or error_type(draft.metadata.get("error.type"))
    message = text(stated.get("message")) or draft.status_message
    if kind or message or stated:
        draft.error = ErrorInfo(type=kind or "Error", message=message, stack=text(stated.get("stack")))


__all__ = ["convert", "convert_span"]
