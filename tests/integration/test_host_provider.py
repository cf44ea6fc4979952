"""Spans of instrumentations in the process join the turn, through the provider that the host has set for itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from turntrace import Turntrace, TurntraceMiddleware
from turntrace.storage.database import Database
from turntrace.storage.queries import traces


@pytest.fixture
def host_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """A provider as a host sets it, for one test."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield provider
    provider.shutdown()


@pytest.mark.anyio
async def test_a_model_call_traced_by_the_hosts_provider_is_an_observation_of_the_turn(
    host_provider: TracerProvider, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'turntrace.db'}"
    tt = Turntrace(database_url=url, spool_dir=str(tmp_path / "spool"), worker="thread", secret_key="k" * 32)

    async def ask(_: Request) -> JSONResponse:
        with tt.observation("steps", type="chain"):
            tracer = trace.get_tracer("opentelemetry.instrumentation.some_client")
            with tracer.start_as_current_span("chat gpt-4o-mini") as span:
                span.set_attributes(
                    {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.provider.name": "openai",
                        "gen_ai.request.model": "gpt-4o-mini",
                        "gen_ai.usage.input_tokens": 10,
                        "gen_ai.usage.output_tokens": 2,
                    }
                )
                with trace.get_tracer("opentelemetry.instrumentation.httpx").start_as_current_span(
                    "POST", kind=trace.SpanKind.CLIENT, attributes={"http.request.method": "POST"}
                ):
                    pass
        return JSONResponse({})

    app = TurntraceMiddleware(Starlette(routes=[Route("/ask", ask, methods=["POST"])]), turntrace=tt)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/ask")
    assert tt.flush(20)
    tt.shutdown()
    with Database(url).read() as connection:
        (found,) = traces.find_traces(connection, answer.headers["x-trace-id"])
    tree = {o.name: (o.type, o.parent_span_id) for o in found.observations}
    spans = {o.name: o.span_id for o in found.observations}
    assert tree == {"steps": ("chain", None), "chat gpt-4o-mini": ("generation", spans["steps"])}
    assert found.cost_total_nano == 2700
