"""Celery tasks, RQ jobs and MCP requests: turns of the trace they were sent from, whatever becomes of them."""

from typing import Any, ClassVar

import pytest
from celery import Celery, chain
from celery.contrib.testing.worker import start_worker
from mcp.client.client import Client
from mcp.server.mcpserver import MCPServer

from tests.integration.borders.conftest import WHO, Recording
from turntrace.borders import mcp as border


def test_tasks_are_turns_below_the_step_that_sent_them(recording: Recording) -> None:
    tt = recording.tt
    app = tt.borders.celery(tt.borders.celery(Celery("shop", broker="memory://", backend="cache+memory://")))

    @app.task(name="double")
    def double(number: int) -> int:
        with tt.observation("multiply"):
            return number * 2

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    with start_worker(app, perform_ping_check=False, pool="solo"):
        with tt.turn("order", **WHO), tt.observation("send", type="tool"):
            chained = chain(double.s(2), double.s().set(task_id="second"))()
            failing = fail.delay()
        assert chained.get(timeout=60) == 8
        with pytest.raises(ValueError):
            failing.get(timeout=60)
        alone = double.delay(1)
        assert alone.get(timeout=60) == 2
    turns = recording.every_turn()
    order = next(turn for turn in turns if turn["name"] == "order")
    inside = [turn for turn in turns if turn["trace_id"] == order["trace_id"] and turn is not order]
    first, second, failed = (
        next(turn for turn in inside if turn["name"] == name and is_it(turn))
        for name, is_it in (
            ("double", lambda turn: turn["metadata"]["task_id"] != "second"),
            ("double", lambda turn: turn["metadata"]["task_id"] == "second"),
            ("fail", lambda turn: True),
        )
    )
    assert len(inside) == 3
    send = order["steps"]["send"]["span_id"]
    assert (first["parent_span_id"], failed["parent_span_id"]) == (send, send)
    assert second["parent_span_id"] not in (None, send)
    assert {turn["session_id"] for turn in inside} == {WHO["session_id"]}
    assert all(turn["tags"] == WHO["tags"] for turn in inside)
    assert failed["error"]["type"] == "ValueError"
    assert "multiply" in second["steps"]
    # A task that nobody's turn sent is a trace of its own.
    assert [turn["name"] for turn in turns if turn["trace_id"] != order["trace_id"]] == ["double"]


def test_eager_tasks_are_turns_too(recording: Recording) -> None:
    tt = recording.tt
    app = tt.borders.celery(Celery("eager", broker="memory://", task_always_eager=True))

    @app.task(name="eager-task")
    def work() -> str | None:
        return tt.current_trace_id()

    with tt.turn("order", **WHO):
        inner = work.delay().get()
        assert inner == tt.current_trace_id()
    turns = recording.turns()
    assert turns["eager-task"]["trace_id"] == turns["order"]["trace_id"]


def test_a_job_that_runs_outside_a_worker_is_a_turn(recording: Recording) -> None:
    tt = recording.tt

    @tt.borders.rq_job
    def work(number: int) -> str | None:
        return tt.current_trace_id() if number else None

    with tt.turn("order", **WHO):
        assert work(1) == tt.current_trace_id()
    with pytest.raises(TypeError):
        work()
    names = [turn["name"] for turn in recording.every_turn()]
    assert len(names) == 3


@pytest.mark.parametrize("is_own", [True, False])
async def test_tools_are_turns_below_the_step_that_called_them(is_own: bool, recording: Recording) -> None:
    tt = recording.tt
    server = tt.borders.mcp_server(tt.borders.mcp_server(MCPServer("weather"), is_own=is_own), is_own=is_own)

    @server.tool()
    def forecast(city: str) -> str:
        if city == "Atlantis":
            raise ValueError("no such place")
        tt.observation("look").end()
        return f"{city}: dry"

    @server.prompt()
    def greeting(name: str) -> str:
        return f"Hello {name}"

    async with Client(server) as client:
        tt.borders.mcp_client(tt.borders.mcp_client(client, is_own=is_own), is_own=is_own)
        with tt.turn("walk", **WHO):
            with tt.observation("ask", type="tool"):
                answer: Any = await client.call_tool("forecast", {"city": "Bath"})
                await client.get_prompt("greeting", {"name": "Bo"})
                wrong: Any = await client.call_tool("forecast", {"city": "Atlantis"})
            await client.list_tools()
    assert (answer.content[0].text, wrong.is_error) == ("Bath: dry", True)
    turns = recording.every_turn()
    walk = turns.pop(0)
    assert walk["name"] == "walk"
    assert [turn["name"] for turn in turns] == ["tools/call forecast", "prompts/get greeting", "tools/call forecast"]
    for turn in turns:
        assert turn["trace_id"] == walk["trace_id"]
        assert turn["parent_span_id"] == walk["steps"]["ask"]["span_id"]
        assert turn.get("session_id") == (WHO["session_id"] if is_own else None)
    step = turns[0]["steps"]["forecast"]["own"]
    assert (step["type"], step["input"]) == ("tool", {"city": "Bath"})
    assert step["output"][0]["text"] == "Bath: dry"
    assert turns[0]["steps"]["look"]["parent_span_id"] == turns[0]["steps"]["forecast"]["span_id"]
    assert turns[2]["steps"]["forecast"]["status"] == "error"


class Meta:
    """The `_meta` of a request of SDK 1: a model that takes any field."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_copy(self, update: dict[str, Any]) -> "Meta":
        return Meta(**{**self.fields, **update})

    def model_dump(self) -> dict[str, Any]:
        return self.fields


class Params:
    Meta = Meta

    def __init__(self, meta: Meta | None = None) -> None:
        self.meta = meta
        self.name = "forecast"

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"name": self.name, "arguments": {"city": "Bath"}}


class Asked:
    """A request of SDK 1."""

    method = "tools/call"

    def __init__(self, meta: Meta | None = None) -> None:
        self.params = Params(meta)


async def test_the_older_sdk_is_served_through_its_handlers(recording: Recording) -> None:
    tt = recording.tt

    class Server:
        request_handlers: ClassVar[dict[type, Any]] = {}

    async def handle(request: Asked) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "dry"}]}

    class Session:
        async def send_request(self, request: Any, kind: Any) -> Any:
            return await Server.request_handlers[Asked](request)

    Server.request_handlers[Asked] = handle
    border.attach_server(tt, Server(), is_own=True)
    session = tt.borders.mcp_client(Session(), is_own=True)
    with tt.turn("walk", **WHO), tt.observation("ask"):
        for meta in (None, Meta(progressToken=1)):
            assert (await session.send_request(Asked(meta), dict))["content"][0]["text"] == "dry"
    walk, first, second = recording.every_turn()
    assert {first["trace_id"], second["trace_id"]} == {walk["trace_id"]}
    assert first["session_id"] == second["session_id"] == WHO["session_id"]
