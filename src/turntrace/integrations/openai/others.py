"""Who else traces the client: two descriptions of one call are one too many."""

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace

from turntrace.tracing.context import current_span

# Attributes of a span that is a model call already, and the values that say so (lower case).
_MODEL_CALLS: Final[Mapping[str, frozenset[str]]] = {
    "gen_ai.operation.name": frozenset(
        {"chat", "text_completion", "generate_content", "embeddings", "completion", "responses"}
    ),
    "openinference.span.kind": frozenset({"llm", "embedding"}),
    "llm.request.type": frozenset({"chat", "completion", "embedding"}),
    "langfuse.observation.type": frozenset({"generation", "embedding"}),
}


def is_described() -> bool:
    """Whether the current span is another instrumentation's model call: an SDK that traces itself is at work."""
    span = current_span()
    if not span.is_recording():
        return False
    attributes = _attributes_of(span)
    return any(str(attributes.get(name)).lower() in values for name, values in _MODEL_CALLS.items())


def _attributes_of(span: trace.Span) -> Mapping[str, Any]:
    """Of a span that an instrumentation made; an observation of our own has none."""
    facts = getattr(span, "facts", None)  # of ours; spans of the SDK have the attributes themselves
    found = facts.get("attributes") if isinstance(facts, dict) else getattr(span, "attributes", None)
    return found if isinstance(found, Mapping) else {}


def is_wrapped_by_another(owner: Any, *names: str) -> bool:
    """Whether a method of the client is already wrapped by an instrumentation (they all use `wrapt`)."""
    return any(type(vars(owner).get(name)).__module__.startswith("wrapt") for name in names)


__all__ = ["is_described", "is_wrapped_by_another"]
