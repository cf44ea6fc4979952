"""Framework spans that are no observations: HTTP clients, ORMs, web-framework inner spans, queues, runtimes."""

from collections.abc import Container
from typing import Final

from turntrace.records.fragment import RawSpan

_INSTRUMENTATION: Final = "opentelemetry.instrumentation."
_HTTP_CLIENTS: Final = frozenset(
    {_INSTRUMENTATION + name for name in ["httpx", "requests", "urllib", "urllib3", "aiohttp_client", "httpx2"]}
    | {"@opentelemetry/instrumentation-" + name for name in ("http", "undici", "fetch")}
)
_WEB: Final = frozenset(
    _INSTRUMENTATION + name for name in ["asgi", "fastapi", "starlette", "django", "flask", "wsgi", "aiohttp_server"]
) | {"fastapi", "starlette"}  # which trace themselves by now
_DATABASES: Final = frozenset(
    _INSTRUMENTATION + name
    for name in [
        "sqlalchemy",
        "psycopg",
        "psycopg2",
        "asyncpg",
        "dbapi",
        "sqlite3",
        "mysql",
        "pymongo",
        "redis",
        "celery",
        "kafka",
        "botocore",
    ]
)
_RUNTIME: Final = frozenset(
    _INSTRUMENTATION + name for name in ["threading", "asyncio", "logging", "grpc", "system_metrics"]
)
# LiteLLM tells of each call a second time, in a child: as the provider was sent it.
_RAW_REQUEST: Final = ("litellm", "raw_gen_ai_request")
MODEL_PREFIXES: Final = ("gen_ai.", "llm.", "openinference.", "langfuse.", "traceloop.", "mlflow.", "ai.", "mcp.")
VECTOR_STORES: Final = frozenset(
    [
        "chroma",
        "chromadb",
        "pinecone",
        "qdrant",
        "weaviate",
        "milvus",
        "lancedb",
        "marqo",
        "pgvector",
        "elasticsearch",
        "opensearch",
        "vespa",
    ]
)


def is_noise(span: RawSpan, keep_scopes: Container[str], *, is_captured: bool = False) -> bool:
    """Whether the span is framework noise; a span with an attribute of a model instrumentation never is.

    Args:
        is_captured: the turn was captured by our own middleware, so that a framework's server span repeats it.
    """
    scope = span.scope
    if span.own is not None or scope is None or scope in keep_scopes:
        return False
    if (scope, span.name) == _RAW_REQUEST and span.parent_span_id is not None:
        return True
    if not (_is_framework(span, scope, is_captured) or _is_http_client(span)):
        return False
    return not any(name.startswith(MODEL_PREFIXES) for name in span.attributes)


def _is_framework(span: RawSpan, scope: str, is_captured: bool) -> bool:
    if scope in _DATABASES:
        return not is_vector_query(span)
    if scope in _WEB:
        return span.kind == "internal" or (is_captured and span.kind == "server")
    return scope in _HTTP_CLIENTS or scope in _RUNTIME


def _is_http_client(span: RawSpan) -> bool:
    return span.kind == "client" and ("http.request.method" in span.attributes or "http.method" in span.attributes)


def is_vector_query(span: RawSpan) -> bool:
    """Whether a database span is a query of a vector store."""
    system = span.attributes.get("db.system") or span.attributes.get("db.system.name")
    if not isinstance(system, str) or system.lower() not in VECTOR_STORES:
        return False
    if any(event.name in ("db.query.result", "db.search.result") for event in span.events):
        return True
    operation = span.attributes.get("db.operation") or span.attributes.get("db.operation.name")
    words = ("query", "search", "get")
    return isinstance(operation, str) and any(word in operation.lower() for word in words)
