"""Other tools recording the turn of the workload with their defaults, where they are installed (extra `peers`).

Each exports over HTTP to the sink of the benchmark, which costs it less than a real server beside it would.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.workload import ANSWER, DOCUMENTS, MESSAGES, QUESTION, RANKED, USAGE, Model, Turn

_MODULES = {"langfuse": "langfuse", "logfire": "logfire", "phoenix": "phoenix.otel", "mlflow": "mlflow"}
Built = tuple[Turn, Callable[[], object]]
Attributes = Mapping[str, Mapping[str, Any]]


def installed() -> tuple[str, ...]:
    """Names of the peers that can be imported here."""
    return tuple(name for name, module in _MODULES.items() if _exists(module))


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent
        return False


def build(name: str, sink_port: int) -> Built:
    """The turn as the peer records it, and how the peer is ended."""
    return {"langfuse": _langfuse, "logfire": _logfire, "phoenix": _phoenix, "mlflow": _mlflow}[name](sink_port)


def genai() -> Attributes:
    """What is known of each step before (`…`) and after (`….done`) it, as the GenAI conventions name it."""
    return {
        "agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support", **_texts("input", QUESTION)},
        "retrieval": {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": QUESTION},
        "retrieval.done": {"gen_ai.retrieval.documents": json.dumps(DOCUMENTS)},
        "rerank": {"gen_ai.operation.name": "rerank", "gen_ai.retrieval.query.text": QUESTION},
        "rerank.done": {"gen_ai.retrieval.documents": json.dumps(RANKED)},
        "tool": {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.call.arguments": json.dumps({"sku": "K-100"}),
        },
        "tool.done": {"gen_ai.tool.call.result": json.dumps({"stock": 3})},
        "generation": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.input.messages": json.dumps(
                [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in MESSAGES]
            ),
        },
        "generation.done": {
            "gen_ai.usage.input_tokens": USAGE["input_tokens"],
            "gen_ai.usage.output_tokens": USAGE["output_tokens"],
            "gen_ai.usage.cache_read.input_tokens": USAGE["cache_read_tokens"],
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "r-1",
            **_texts("output", ANSWER, "assistant"),
        },
        "agent.done": _texts("output", ANSWER, "assistant"),
    }


def _texts(direction: str, text: str, role: str = "user") -> dict[str, str]:
    return {f"gen_ai.{direction}.messages": json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])}


def openinference() -> Attributes:
    """The same as OpenInference names it: documents and messages as indexed attributes."""
    documents = {
        f"retrieval.documents.{i}.document.{key}": value
        for i, document in enumerate(DOCUMENTS)
        for key, value in document.items()
    }
    messages = {
        f"llm.input_messages.{i}.message.{key}": value
        for i, message in enumerate(MESSAGES)
        for key, value in message.items()
    }
    return {
        "agent": {"openinference.span.kind": "AGENT", "input.value": QUESTION},
        "retrieval": {"openinference.span.kind": "RETRIEVER", "input.value": QUESTION},
        "retrieval.done": documents,
        "rerank": {"openinference.span.kind": "RERANKER", "reranker.query": QUESTION},
        "rerank.done": {f"reranker.output_documents.{i}.document.id": key for i, key in enumerate(RANKED)},
        "tool": {
            "openinference.span.kind": "TOOL",
            "tool.name": "lookup",
            "input.value": json.dumps({"sku": "K-100"}),
        },
        "tool.done": {"output.value": json.dumps({"stock": 3})},
        "generation": {
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.model_name": "gpt-4o-mini",
            **messages,
        },
        "generation.done": {
            "llm.token_count.prompt": USAGE["input_tokens"],
            "llm.token_count.completion": USAGE["output_tokens"],
            "llm.token_count.prompt_details.cache_read": USAGE["cache_read_tokens"],
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": ANSWER,
        },
        "agent.done": {"output.value": ANSWER},
    }


def traced(tracer: Any, describe: Callable[[], Attributes]) -> Turn:
    """The turn with spans of an OpenTelemetry tracer. `describe` is called in every turn: its JSON is made anew."""

    async def turn(model: Model) -> None:
        told = describe()
        with tracer.start_as_current_span("invoke_agent support", attributes=told["agent"]) as agent:
            for step, name in (("retrieval", "kb-search"), ("rerank", "rerank"), ("tool", "execute_tool lookup")):
                with tracer.start_as_current_span(name, attributes=told[step]) as span:
                    span.set_attributes(told[f"{step}.done"])
            with tracer.start_as_current_span("chat gpt-4o-mini", attributes=told["generation"]) as span:
                await model()
                span.set_attributes(told["generation.done"])
            agent.set_attributes(told["agent.done"])

    return turn


def _langfuse(sink_port: int) -> Built:
    from langfuse import Langfuse  # type: ignore[import-not-found]

    client = Langfuse(public_key="pk", secret_key="sk", host=f"http://127.0.0.1:{sink_port}")
    begin = client.start_as_current_observation

    async def turn(model: Model) -> None:
        with begin(name="support", as_type="agent", input=QUESTION) as agent:
            with begin(name="kb-search", as_type="retriever", input=QUESTION) as search:
                search.update(output=DOCUMENTS)
            with begin(name="rerank", as_type="span", input=QUESTION) as rerank:
                rerank.update(output=RANKED)
            with begin(name="lookup", as_type="tool", input={"sku": "K-100"}) as tool:
                tool.update(output={"stock": 3})
            with begin(name="answer", as_type="generation", model="gpt-4o-mini", input=MESSAGES) as generation:
                await model()
                generation.update(output=ANSWER, usage_details=USAGE)
            agent.update(output=ANSWER)

    return turn, client.shutdown


def _logfire(sink_port: int) -> Built:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{sink_port}"
    import logfire  # type: ignore[import-not-found]

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)

    async def turn(model: Model) -> None:
        with logfire.span("support", question=QUESTION) as agent:
            with logfire.span("kb-search", query=QUESTION) as search:
                search.set_attribute("documents", DOCUMENTS)
            with logfire.span("rerank", query=QUESTION) as rerank:
                rerank.set_attribute("output", RANKED)
            with logfire.span("lookup", arguments={"sku": "K-100"}) as tool:
                tool.set_attribute("result", {"stock": 3})
            with logfire.span("answer", model="gpt-4o-mini", messages=MESSAGES) as generation:
                await model()
                generation.set_attributes({"output": ANSWER, "usage": USAGE})
            agent.set_attribute("output", ANSWER)

    return turn, logfire.shutdown


def _phoenix(sink_port: int) -> Built:
    from phoenix.otel import register  # type: ignore[import-not-found]

    provider = register(
        endpoint=f"http://127.0.0.1:{sink_port}/v1/traces",
        protocol="http/protobuf",
        batch=True,
        verbose=False,
        set_global_tracer_provider=False,
    )
    return traced(provider.get_tracer("benchmark"), openinference), provider.shutdown


def _mlflow(sink_port: int) -> Built:
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"http://127.0.0.1:{sink_port}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    import mlflow  # type: ignore[import-not-found]

    async def turn(model: Model) -> None:
        with mlflow.start_span("support", span_type="AGENT") as agent:
            agent.set_inputs(QUESTION)
            with mlflow.start_span("kb-search", span_type="RETRIEVER") as search:
                search.set_inputs(QUESTION)
                search.set_outputs(DOCUMENTS)
            with mlflow.start_span("rerank", span_type="RERANKER") as rerank:
                rerank.set_inputs(QUESTION)
                rerank.set_outputs(RANKED)
            with mlflow.start_span("lookup", span_type="TOOL") as tool:
                tool.set_inputs({"sku": "K-100"})
                tool.set_outputs({"stock": 3})
            with mlflow.start_span("answer", span_type="CHAT_MODEL") as generation:
                generation.set_inputs(MESSAGES)
                await model()
                generation.set_outputs(ANSWER)
                generation.set_attribute("usage", USAGE)
            agent.set_outputs(ANSWER)

    return turn, lambda: None
