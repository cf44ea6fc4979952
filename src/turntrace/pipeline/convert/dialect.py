"""Which instrumentation wrote a span: a table of tests, the first match wins (span-mapping section 1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from turntrace.pipeline.convert import (
    langfuse,
    langsmith,
    litellm,
    mcp,
    mlflow,
    openinference,
    openlit,
    openllmetry,
    otelgenai,
    pydanticai,
    relayed,
    vercel,
)
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.draft import Draft
from turntrace.pipeline.noise import is_vector_query
from turntrace.records.fragment import RawSpan


@dataclass(frozen=True, slots=True)
class Dialect:
    """A name, how its spans are recognised, and what reads them.

    `recognises` gets the span and the names of its attributes joined by line ends (each name has one before it).
    """

    name: str
    recognises: Callable[[RawSpan, str], bool]
    read: Callable[[Bag, Draft], None]


def _is_langfuse(span: RawSpan, names: str) -> bool:
    return span.scope == "langfuse-sdk" or "\nlangfuse.observation." in names


def _is_openinference(span: RawSpan, names: str) -> bool:
    return "openinference.span.kind" in span.attributes


def _is_mlflow(span: RawSpan, names: str) -> bool:
    return "\nmlflow.span" in names or "mlflow.traceRequestId" in span.attributes


def _is_vercel(span: RawSpan, names: str) -> bool:
    operation: Any = span.attributes.get("operation.name")
    is_named = span.scope == "ai" and isinstance(operation, str) and operation.startswith("ai.")
    return is_named or "ai.operationId" in span.attributes


def _is_mcp(span: RawSpan, names: str) -> bool:
    return "mcp.method.name" in span.attributes


def _is_langsmith(span: RawSpan, names: str) -> bool:
    return "langsmith.span.kind" in span.attributes


def _is_litellm(span: RawSpan, names: str) -> bool:
    return span.scope == litellm.SCOPE and ("litellm.call_id" in span.attributes or "\nllm.request.type" in names)


def _is_openlit(span: RawSpan, names: str) -> bool:
    return (span.scope or "").startswith(openlit.SCOPE) and "gen_ai.operation.name" in span.attributes


def _is_openllmetry(span: RawSpan, names: str) -> bool:
    attributes = span.attributes
    if "llm.request.type" in attributes or "traceloop.span.kind" in attributes or "\ntraceloop." in names:
        return True
    return any(f"\n{prefix}{digit}" in names for prefix in _FLAT for digit in "0123456789") or is_vector_query(span)


_FLAT: Final = ("gen_ai.prompt.", "gen_ai.completion.")


def _is_pydanticai(span: RawSpan, names: str) -> bool:
    scope = span.scope or ""
    return scope == "pydantic-ai" or (scope.startswith("logfire") and "\ngen_ai." in names)


def _is_otelgenai(span: RawSpan, names: str) -> bool:
    attributes = span.attributes
    if "gen_ai.operation.name" in attributes:
        return True
    has_provider = "gen_ai.provider.name" in attributes or "gen_ai.system" in attributes
    return has_provider and ("gen_ai.request.model" in attributes or "gen_ai.response.model" in attributes)


DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect("turntrace", relayed.is_own, relayed.read),
    Dialect("langfuse", _is_langfuse, langfuse.read),
    Dialect("openinference", _is_openinference, openinference.read),
    Dialect("mlflow", _is_mlflow, mlflow.read),
    Dialect("vercel-ai", _is_vercel, vercel.read),
    Dialect("mcp", _is_mcp, mcp.read),
    Dialect("langsmith", _is_langsmith, langsmith.read),
    Dialect("litellm", _is_litellm, litellm.read),
    Dialect("openlit", _is_openlit, openlit.read),
    Dialect("openllmetry", _is_openllmetry, openllmetry.read),
    Dialect("pydantic-ai", _is_pydanticai, pydanticai.read),
    Dialect("otel-genai", _is_otelgenai, otelgenai.read),
)


def recognise(span: RawSpan) -> Dialect | None:
    """The dialect of a span; None for a plain application span."""
    if not span.attributes and span.scope != "langfuse-sdk":
        return None
    names = "\n" + "\n".join(span.attributes)
    return next((dialect for dialect in DIALECTS if dialect.recognises(span, names)), None)
