"""Which packages trace which library of model calls: known by the names of their distributions.

All instrumentations announce themselves as entry points `opentelemetry_instrumentor`; those of databases and web
frameworks do so, too, and are none of ours to switch on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires
from typing import Final

GROUP: Final = "opentelemetry_instrumentor"
_OFFICIAL: Final = re.compile(r"opentelemetry-instrumentation-(genai-.+|openai-v2|google-genai)\Z")
_OPENINFERENCE: Final = re.compile(r"openinference-instrumentation-.+\Z")
_OPENLLMETRY: Final = re.compile(
    r"opentelemetry-instrumentation-("
    r"agno|alephalpha|anthropic|bedrock|chromadb|cohere|crewai|google-generativeai|groq|haystack|lancedb|langchain|"
    r"llamaindex|marqo|mcp|milvus|mistralai|ollama|openai|openai-agents|pinecone|qdrant|replicate|sagemaker|together|"
    r"transformers|vertexai|voyageai|watsonx|weaviate|writer)\Z"
)
_SUPERSEDED: Final = re.compile(r"opentelemetry-instrumentation-openai-agents-v2\Z")  # by `genai-openai-agents`
# In order of preference: the conventions' own, then the one that knows most frameworks, then the third.
_FAMILIES: Final = (_OFFICIAL, _OPENINFERENCE, _OPENLLMETRY, _SUPERSEDED)
# SDKs that make spans by themselves, by the name of their distribution. Those that need more than a global tracer
# provider for it have a function in `instrument`.
TRACING_THEMSELVES: Final = ("anthropic", "langfuse", "logfire", "mcp", "pydantic-ai")
# Their own spans are all there is to say: an instrumentation on top would describe the same steps again. Anthropic's
# own ones are without texts by default, so an instrumentation is welcome there; the pipeline drops the poorer twin.
_ENOUGH: Final = frozenset({"mcp", "pydanticai"})


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """An installed instrumentation of one library of model calls."""

    library: str
    package: str
    entry_point: EntryPoint
    rank: int


def key_of(name: str) -> str:
    """One spelling for the names of a library: `llama-index`, `llama_index` and `llamaindex` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find() -> Iterator[Instrumentation]:
    """Installed instrumentations of libraries of model calls, the preferred one of each library first."""
    return _find(entry_points(group=GROUP))


def _find(points: Iterable[EntryPoint]) -> Iterator[Instrumentation]:
    found = [known for point in points if (known := _known(point)) is not None]
    yield from sorted(found, key=lambda item: (key_of(item.library), item.rank, item.package))


def _known(point: EntryPoint) -> Instrumentation | None:
    package = point.dist.name.lower().replace("_", "-") if point.dist is not None else ""
    rank = next((rank for rank, family in enumerate(_FAMILIES) if family.match(package)), None)
    return None if rank is None else Instrumentation(point.name, package, point, rank)


def traces_itself(package: str) -> bool:
    """Whether a library is installed in a version that makes spans by itself: it depends on OpenTelemetry then."""
    for name in (package, f"{package}-slim"):  # of pydantic-ai, which has its code in the slim one
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        if any(re.match(r"opentelemetry-(api|sdk)\b(?!.*;.*extra)", item) for item in needed):
            return True
    return False


def is_enough(library: str) -> bool:
    """Whether the library's own spans make an instrumentation of it superfluous."""
    known = key_of(library)
    return known in _ENOUGH and any(key_of(name) == known and traces_itself(name) for name in TRACING_THEMSELVES)
