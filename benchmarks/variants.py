"""The same turn recorded in different ways, each as an application would write it, with the same facts on record."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.workload import ANSWER, DOCUMENTS, MESSAGES, QUESTION, RANKED, USAGE, Model, Turn, bare_turn


def _as_it_is(app: Any) -> Any:
    return app


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to record: the turn itself, what goes around an application, and how it is ended."""

    turn: Turn
    asgi: Callable[[Any], Any] = _as_it_is
    wsgi: Callable[[Any], Any] = _as_it_is
    close: Callable[[], object] = _nothing


BARE, OTEL = "bare", "otel-batch"
OURS = ("turntrace-process", "turntrace-thread")


def names() -> tuple[str, ...]:
    """All that can be measured here; of the peers those that are installed."""
    return (BARE, *OURS, OTEL, "otel-asgi", *peers.installed())


def build(name: str, home: Path, sink_port: int) -> Variant:
    """The variant `name`, with its files below `home` and exporting to the sink."""
    if name == BARE:
        return Variant(turn=bare_turn)
    if name.startswith("turntrace-"):
        return _turntrace(name.removeprefix("turntrace-"), home)
    if name in (OTEL, "otel-asgi"):
        return _otel(sink_port, is_instrumented=name == "otel-asgi")
    turn, close = peers.build(name, sink_port)
    return Variant(turn=turn, close=close)


def _turntrace(worker: str, home: Path) -> Variant:
    from turntrace import Turntrace, TurntraceMiddleware, TurntraceWSGIMiddleware

    tt = Turntrace(
        database_url=f"sqlite:///{home / 'turntrace.db'}",
        spool_dir=str(home / "spool"),
        worker=worker,
        secret_key="b" * 32,
    )

    async def turn(model: Model) -> None:
        with tt.observation("support", type="agent", input=QUESTION) as agent:
            with tt.observation("kb-search", type="retrieval", input=QUESTION) as search:
                search.update(documents=DOCUMENTS)
            with tt.observation("rerank", type="reranker", input=QUESTION) as rerank:
                rerank.update(output=RANKED)
            with tt.observation("lookup", type="tool", input={"sku": "K-100"}) as tool:
                tool.update(output={"stock": 3})
            with tt.generation("answer", model="gpt-4o-mini", provider="openai", input=MESSAGES) as generation:
                await model()
                generation.update(output=ANSWER, usage=USAGE, finish_reason="stop", response_id="r-1")
            agent.update(output=ANSWER)

    return Variant(
        turn=turn,
        asgi=lambda app: TurntraceMiddleware(app, turntrace=tt),
        wsgi=lambda app: TurntraceWSGIMiddleware(app, turntrace=tt),
        close=tt.shutdown,
    )


def _otel(sink_port: int, *, is_instrumented: bool) -> Variant:
    """OpenTelemetry's SDK with the batch processor, attributes as the GenAI conventions name them."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{sink_port}/v1/traces")))
    tracer = provider.get_tracer("benchmark")

    def by_hand_asgi(inner: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return

            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            with tracer.start_as_current_span("POST /ask") as span:
                span.set_attributes({"http.request.method": scope["method"], "http.route": "/ask"})
                await inner(scope, receive, sending)

        return app

    def by_hand_wsgi(inner: Any) -> Any:
        def app(environ: Any, start_response: Any) -> Any:
            with tracer.start_as_current_span("POST /ask") as span:
                span.set_attributes({"http.request.method": environ["REQUEST_METHOD"], "http.route": "/ask"})
                return inner(environ, start_response)

        return app

    def instrumented(inner: Any) -> Any:
        return OpenTelemetryMiddleware(inner, tracer_provider=provider)

    return Variant(
        turn=peers.traced(tracer, peers.genai),
        asgi=instrumented if is_instrumented else by_hand_asgi,
        wsgi=by_hand_wsgi,
        close=provider.shutdown,
    )
