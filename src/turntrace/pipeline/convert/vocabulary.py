"""One spelling for words that every instrumentation spells its own way."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from turntrace.records.observation import OBSERVATION_TYPES

_FINISH: Final[Mapping[str, str]] = {
    spelling: word
    for word, spellings in {
        "stop": ("stop", "end_turn", "stop_sequence", "completed"),
        "length": ("length", "max_tokens", "max_output_tokens", "incomplete"),
        "tool_calls": ("tool_calls", "tool_call", "tool-calls", "tool_use", "function_call"),
        "content_filter": ("content_filter", "content-filter", "safety", "refusal"),
    }.items()
    for spelling in spellings
}

_PROVIDERS: Final[Mapping[str, str]] = {
    "vertex_ai": "gcp.vertex_ai",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "xai": "x_ai",
    "bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "google": "gcp.gemini",
    "gemini": "gcp.gemini",
    "vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
}

# Frameworks name themselves where the conventions want the provider: then nobody knows whose model it was.
_FRAMEWORKS: Final = frozenset({"strands-agents", "autogen", "langchain", "crewai", "smolagents", "agno", "haystack"})
_ENUM: Final = "FinishReason."  # as Python prints a member

_PARAMETERS: Final[Mapping[str, str]] = {
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "choice.count": "n",
}
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")

# gen_ai.operation.name, lower case, to the type of observation (span-mapping section 2).
OPERATIONS: Final[Mapping[str, str]] = {
    name: kind
    for kind, names in {
        "generation": (
            "chat text_completion generate_content completion generate responses fetch_response realtime_inference "
            "image_generation transcription speech"
        ),
        "embedding": "embeddings",
        "retrieval": "retrieval search_memory",
        "reranker": "rerank",
        "tool": "execute_tool",
        "agent": "invoke_agent",
        "chain": "invoke_workflow plan handle_conversation_turn agent_step execute_task",
        "guardrail": "apply_guardrail",
        "evaluator": "evaluate",
        "span": "create_agent",
    }.items()
    for name in names.split()
}

# Kinds by their own names and by those of OpenInference, MLflow and Langfuse.
KINDS: Final[Mapping[str, str]] = {
    **{name: name for name in OBSERVATION_TYPES},
    "llm": "generation",
    "chat_model": "generation",
    "retriever": "retrieval",
    "memory": "retrieval",
    "prompt": "chain",
    "parser": "chain",
    "workflow": "chain",
    "task": "chain",
    "unknown": "span",
}


def kind_of(value: Any, table: Mapping[str, str] = KINDS) -> str | None:
    """The observation type that a stated kind means, matched without regard to case and surrounding space."""
    return table.get(value.strip().lower()) if isinstance(value, str) else None


def finish_reasons(values: Iterable[Any]) -> tuple[str, ...]:
    """Canonical reasons, in order; empty ones are left out."""
    found = (value.removeprefix(_ENUM) for value in values if isinstance(value, str) and value)
    return tuple(_FINISH.get(value.lower(), value) for value in found if value)


def provider(value: Any) -> str | None:
    """The canonical lower-case name of a provider."""
    if not isinstance(value, str) or not value.strip():
        return None
    name = value.strip().lower()
    return None if name in _FRAMEWORKS else _PROVIDERS.get(name, name)


def parameter(name: str) -> str:
    """The canonical name of a request parameter (snake case)."""
    plain = _CAMEL.sub(r"_\1", name).lower()
    return _PARAMETERS.get(plain, plain)


def error_type(value: Any) -> str | None:
    """A class name without its module."""
    return value.rpartition(".")[2] or None if isinstance(value, str) and value else None
