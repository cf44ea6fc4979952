"""The ASGI middleware, called as a server calls it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.integration.capture.recording import ASGIApp, Client, Recording, http_scope
from turntrace.capture.asgi import TURN_KEY, TurntraceMiddleware
from turntrace.capture.host import set_default_factory
from turntrace.records.fragment import FrameKind
from turntrace.tracing.context import current_turn, suspended
from turntrace.tracing.observation import observation, turn, update_trace

PARENT = "00-12345678901234567890123456789012-1234567890123456-00"


async def run(app: ASGIApp, recording: Recording, scope: Any = None, client: Client | None = None) -> Client:
    client = client or Client(recording.log)
    await TurntraceMiddleware(app, turntrace=recording)(scope or http_scope(), client.receive, client.send)
    assert current_turn() is None
    return client


def observed(name: str = "step") -> None:
    with observation(None, name):
        pass


def answering(*chunks: bytes, headers: Any = (), status: int = 200, final: bool = True, sees: bool = True) -> ASGIApp:
    """An application that sends these chunks; the last is the final message, or is followed by an empty one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if sees:
            observed()
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for left, chunk in enumerate(chunks, 1 - len(chunks)):
            await send({"type": "http.response.body", "body": chunk, "more_body": left < 0 or not final})
        if not final:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def test_an_answer_carries_the_ids_of_its_turn(recording: Recording) -> None:
    client = await run(answering(b"hi"), recording)
    end = recording.turn()
    assert client.header("x-trace-id") == end["trace_id"]
    assert client.header("traceresponse") == f"00-{end['trace_id']}-{end['span_id']}-03"
    assert client.body == b"hi"
    assert (end["http_status"], end["bytes_sent"], end["chunk_count"]) == (200, 2, 1)
    assert "is_streamed" not in end
    assert end["name"] == "GET /"


async def test_the_callers_trace_is_continued(recording: Recording) -> None:
    client = await run(answering(b""), recording, http_scope(headers=[("traceparent", PARENT)]))
    end = recording.turn()
    assert (end["trace_id"], end["parent_span_id"]) == (PARENT[3:35], PARENT[36:52])
    assert client.header("traceresponse") == f"00-{end['trace_id']}-{end['span_id']}-01"


async def test_headers_of_the_host_are_neither_replaced_nor_changed_in_place(recording: Recording) -> None:
    shared = [(b"X-Trace-Id", b"mine")]
    client = await run(answering(b"", headers=shared), recording)
    assert [name for name, _ in client.headers] == [b"X-Trace-Id", b"traceresponse"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": shared})
        await send({"type": "http.response.body"})

    await run(app, recording)
    assert shared == [(b"X-Trace-Id", b"mine")]


async def test_the_settings_can_leave_the_response_headers_out() -> None:
    recording = Recording(response_headers=False)
    client = await run(answering(b"x"), recording)
    assert client.headers == []


@pytest.mark.parametrize(
    ("record", "sees", "kept"),
    [
        ("ai", False, False),
        ("ai", True, True),
        ("all", False, True),
        ("/chat*,/other", False, True),
        ("/other", True, False),
    ],
)
async def test_what_becomes_a_trace(record: str, sees: bool, kept: bool) -> None:
    recording = Recording(record=record)
    client = await run(answering(b"x", sees=sees), recording, http_scope("/chat/1"))
    assert (recording.kinds() == ["END"]) is kept
    assert recording.kinds() in ([], ["END"])
    assert client.header("x-trace-id")


async def test_an_updated_trace_is_kept_without_an_observation(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        update_trace(user_id="u", tags=["a"])
        await answering(b"", sees=False)(scope, receive, send)

    await run(app, recording)
    assert recording.turn()["user_id"] == "u"


@pytest.mark.parametrize("path", ["/healthz", "/health/db", "/static/js/app.js", "/metrics"])
async def test_excluded_paths_are_left_alone(path: str) -> None:
    recording = Recording(record="all")
    assert (await run(answering(b"x"), recording, http_scope(path))).headers == []
    mounted = http_scope(f"/svc{path}", root_path="/svc")
    assert (await run(answering(b"x"), recording, mounted)).headers == []
    assert recording.turn  # nothing of the request itself:
    assert all(document["turn"]["source"] == "manual" for _, document in recording.frames)


async def test_switched_off_it_is_not_there() -> None:
    recording = Recording(enabled=False)
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    scope, client = http_scope(), Client()
    before = dict(scope)
    arguments = (scope, client.receive, client.send)
    await TurntraceMiddleware(app, turntrace=recording)(*arguments)
    assert all(one is other for one, other in zip(seen, arguments, strict=True))
    assert scope == before
    assert recording.starts == 0


async def test_wrapped_twice_it_records_once(recording: Recording) -> None:
    inner = TurntraceMiddleware(answering(b"x"), turntrace=recording)
    client = await run(inner, recording)
    assert recording.kinds() == ["END"]
    assert [name for name, _ in client.headers] == [b"x-trace-id", b"traceresponse"]


async def test_nothing_is_recorded_where_recording_is_suspended(recording: Recording) -> None:
    with suspended():
        client = await run(answering(b"x"), recording)
    assert client.headers == []
    assert recording.frames == []


async def test_an_answer_from_where_recording_is_suspended_leaves_no_trace() -> None:
    """As the panel is mounted in an application whose every request is recorded."""
    recording = Recording(record="all")

    async def panel(scope: Any, receive: Any, send: Any) -> None:
        with suspended():
            await answering(b"panel", sees=False)(scope, receive, send)

    app = Starlette(routes=[Mount("/llm-admin", app=panel)])
    client = await run(app, recording, http_scope("/llm-admin/traces"))
    assert client.body == b"panel"
    assert client.headers == []
    assert recording.frames == []


async def test_it_starts_its_host_once_and_only_for_a_request(recording: Recording) -> None:
    middleware = TurntraceMiddleware(answering(b"x"), turntrace=recording)
    assert recording.starts == 0
    for _ in range(3):
        client = Client()
        await middleware(http_scope(), client.receive, client.send)
    assert recording.starts == 1


def test_without_a_turntrace_the_registered_factory_makes_one(recording: Recording) -> None:
    set_default_factory(None)
    with pytest.raises(RuntimeError, match="turntrace="):
        TurntraceMiddleware(answering())
    made: list[Recording] = []
    set_default_factory(lambda: made.append(recording) or recording)
    try:
        TurntraceMiddleware(answering())
        TurntraceMiddleware(answering())
        assert made == [recording]
    finally:
        set_default_factory(None)


def test_lifespan_passes_through_untouched(recording: Recording) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"from": "lifespan"}

    async def show(request: Request) -> JSONResponse:
        return JSONResponse([request.state["from"], TURN_KEY in request.scope["state"]])

    app = Starlette(routes=[Route("/", show)], lifespan=lifespan)
    with TestClient(TurntraceMiddleware(app, turntrace=recording)) as client:
        assert client.get("/").json() == ["lifespan", True]


@pytest.mark.parametrize(
    ("app", "order"),
    [
        (answering(b"one"), ["END", "sent:one"]),
        (answering(b"one", b"two"), ["sent:one", "END", "sent:two"]),
        (answering(b"one", final=False), ["sent:one", "END", "sent:"]),
        (
            answering(b"one", b"two", final=False, headers=[(b"content-length", b"6")]),
            ["sent:one", "END", "sent:two", "sent:"],
        ),
        (
            answering(b"data: x\n\n", b"data: [DONE]\n\n", final=False),
            ["sent:data: x\n\n", "END", "sent:data: [DONE]\n\n", "sent:"],
        ),
        (answering(b"[DO", b"NE]\n\n", final=False), ["sent:[DO", "END", "sent:NE]\n\n", "sent:"]),
        (
            answering(b"event: message_stop\ndata: {}\n\n", final=False),
            ["END", "sent:event: message_stop\ndata: {}\n\n", "sent:"],
        ),
        (answering(b"", status=304, headers=[(b"content-length", b"6")]), ["END", "sent:"]),
    ],
)
async def test_the_turn_is_written_before_the_answer_is_complete(app: ASGIApp, order: list[str]) -> None:
    recording = Recording()
    await run(app, recording)
    assert recording.log == order


async def test_what_follows_a_terminal_marker_is_amended(recording: Recording) -> None:
    await run(answering(b"data: [DONE]\n\n", b"data: more\n\n"), recording)
    assert recording.kinds() == ["END", "AMEND"]
    assert recording.turn()["bytes_sent"] == 14
    assert recording.turn(FrameKind.AMEND)["bytes_sent"] == 26


async def test_a_long_stream_is_written_as_it_goes() -> None:
    recording = Recording(delta_ms=20)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with observation(None, "answer", type="generation"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            for piece in ("é", "b" * 5000, "c"):
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"d", "more_body": False})

    await run(app, recording, http_scope("/stream"))
    assert recording.log[:3] == ["sent:Ã©", "START", f"sent:{'b' * 5000}"]
    assert recording.log[-2:] == ["END", "sent:d"]
    start, end = recording.turn(FrameKind.START), recording.turn()
    assert (start["outcome"], start["name"], start["route"]) == ("in_progress", "GET /stream", "/stream")
    assert start["received"] == "é" + "b" * 5000
    assert (end["bytes_sent"], end["chunk_count"], end["is_streamed"]) == (5004, 4, True)
    assert end["received"] == "é" + "b" * 5000 + "cd"
    assert 0 < end["ttft_us"] <= end["last_byte_us"] <= end["duration_us"]


async def test_an_exception_goes_on_as_the_same_object(recording: Recording) -> None:
    error = ValueError("broken")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        observed()
        raise error

    with pytest.raises(ValueError, match="broken") as caught:
        await run(app, recording)
    assert caught.value is error
    assert caught.value.__context__ is None
    end = recording.turn()
    assert (end["error"]["type"], end["error"]["message"]) == ("ValueError", "broken")
    assert "in test_an_exception_goes_on_as_the_same_object.<locals>.app" in end["error"]["stack"]
    assert end["http_status"] == 500
    assert "outcome" not in end


async def test_an_exception_in_the_middle_leaves_an_interrupted_turn(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        observed()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        await run(app, recording)
    end = recording.turn()
    assert (end["outcome"], end["http_status"], end["error"]["type"]) == ("interrupted", 200, "RuntimeError")


async def test_an_application_that_never_completes_is_finalised(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        observed()

    await run(app, recording)
    assert recording.turn()["outcome"] == "interrupted"


async def test_an_exception_after_the_answer_is_amended(recording: Recording) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(b"x")(scope, receive, send)
        raise RuntimeError("background")

    with pytest.raises(RuntimeError):
        await run(app, recording)
    assert recording.kinds() == ["END", "AMEND"]
    assert recording.turn(FrameKind.AMEND)["error"]["message"] == "background"


async def test_a_client_that_breaks_off_is_no_error(recording: Recording) -> None:
    client = Client(recording.log, breaks_at=2)
    with pytest.raises(OSError, match="gone"):
        await run(answering(b"one", b"two", b"three"), recording, client=client)
    end = recording.turn()
    assert end["outcome"] == "client_disconnected"
    assert "error" not in end


async def test_a_lost_last_piece_corrects_the_outcome(recording: Recording) -> None:
    client = Client(recording.log, breaks_at=2)
    with pytest.raises(OSError, match="gone"):
        await run(answering(b"one", b"two"), recording, client=client)
    assert recording.kinds() == ["START", "END", "AMEND"] or recording.kinds() == ["END", "AMEND"]
    assert recording.turn(FrameKind.AMEND)["outcome"] == "client_disconnected"


async def test_leaving_after_the_terminal_marker_is_no_disconnect(recording: Recording) -> None:
    client = Client(recording.log, breaks_at=2)
    with pytest.raises(OSError, match="gone"):
        await run(answering(b"data: [DONE]\n\n", final=False), recording, client=client)
    assert recording.kinds() == ["END"]


async def test_a_cancelled_request_is_a_departed_client(recording: Recording) -> None:
    entered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        observed()
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(app, recording))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = recording.turn()
    assert end["outcome"] == "client_disconnected"
    assert "error" not in end


async def test_a_stream_left_early_keeps_what_the_client_had(recording: Recording) -> None:
    """As uvicorn does it: `receive` answers http.disconnect, Starlette cancels the stream and returns."""
    left = asyncio.Event()
    closed: list[bool] = []

    async def body() -> AsyncIterator[str]:
        observed()
        try:
            yield "first"
            left.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(body(), media_type="text/event-stream")

    class Leaving(Client):
        async def receive(self) -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

    await run(Starlette(routes=[Route("/", endpoint)]), recording, client=Leaving(recording.log))
    assert closed == [True]
    end = recording.turn()
    assert (end["outcome"], end["bytes_sent"], end["received"]) == ("client_disconnected", 5, "first")
    assert recording.kinds() == ["START", "END"]


async def test_late_observations_and_updates_follow_as_amendments(recording: Recording) -> None:
    def late() -> None:
        observed("late")
        update_trace(user_id="u")

    async def endpoint(request: Request) -> PlainTextResponse:
        observed("early")
        return PlainTextResponse("x", background=BackgroundTask(late))

    await run(Starlette(routes=[Route("/", endpoint)]), recording)
    assert recording.kinds()[0] == "END"
    assert set(recording.kinds()[1:]) == {"AMEND"}
    amended = [document for kind, document in recording.frames if kind is FrameKind.AMEND]
    assert [span["name"] for document in amended for span in document["spans"]] == ["late"]
    assert amended[-1]["turn"]["user_id"] == "u"


async def test_a_background_task_can_make_the_only_observation(recording: Recording) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x", background=BackgroundTask(observed, "late"))

    await run(Starlette(routes=[Route("/", endpoint)]), recording)
    assert recording.kinds() == ["END"]
    assert recording.turn()["name"] == "GET /"


async def _sync_stream(request: Request) -> StreamingResponse:
    def body() -> Iterator[str]:
        observed("in generator")
        yield "a"
        observed("in generator")
        yield "b"

    return StreamingResponse(body(), background=BackgroundTask(observed, "in background"))


async def _async_stream(request: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        observed("in generator")
        yield "a"
        await asyncio.create_task(asyncio.to_thread(observed, "in thread"))
        yield "b"

    return StreamingResponse(body(), background=BackgroundTask(observed, "in background"))


def _sync_handler(request: Request) -> PlainTextResponse:
    observed("in handler")
    return PlainTextResponse("ab", background=BackgroundTask(observed, "in background"))


async def _pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize("around", [0, 1, 2])
@pytest.mark.parametrize("endpoint", [_sync_stream, _async_stream, _sync_handler])
@pytest.mark.parametrize("is_outermost", [True, False])
async def test_every_observation_finds_its_turn(endpoint: Any, around: int, is_outermost: bool) -> None:
    recording = Recording()
    app: Any = Starlette(routes=[Route("/", endpoint)])
    if not is_outermost:
        app = TurntraceMiddleware(app, turntrace=recording)
    for _ in range(around):
        app = BaseHTTPMiddleware(app, dispatch=_pass_on)
    if is_outermost:
        app = TurntraceMiddleware(app, turntrace=recording)
    client = Client(recording.log)
    await app(http_scope(), client.receive, client.send)
    assert client.body == b"ab"
    turns = {document["turn"]["id"] for _, document in recording.frames}
    assert len(turns) == 1
    spans = [span["name"] for _, document in recording.frames for span in document["spans"]]
    assert spans.count("in background") == 1
    assert "END" in recording.kinds()
    assert recording.turn().get("outcome", "complete") == "complete"


def _fastapi() -> FastAPI:
    app, router, inner = FastAPI(), APIRouter(prefix="/v1"), FastAPI()

    @router.get("/chats/{chat_id}")
    async def chat(chat_id: int) -> int:
        return chat_id

    app.include_router(router, prefix="/api")

    @inner.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    app.mount("/inner", inner)
    app.mount("/raw", answering(b"raw", sees=False))
    return app


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v1/chats/7", "/api/v1/chats/{chat_id}"),
        ("/inner/items/7", "/inner/items/{item_id}"),
        ("/raw/anything/7", "/raw"),
        ("/nowhere/7", "/nowhere/7"),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/svc"])
async def test_turns_are_named_by_the_template_of_their_route(path: str, route: str, root_path: str) -> None:
    recording = Recording(record="all")
    scope = http_scope(root_path + path, root_path=root_path, query_string=b"key=secret")
    await run(_fastapi(), recording, scope)
    end = recording.turn()
    assert (end["route"], end["name"]) == (route, f"GET {route}")
    assert "secret" not in str(recording.frames)


async def test_route_patterns_may_name_templates_of_mounted_routes() -> None:
    recording = Recording(record="/api/items/{item_id}")
    app = Starlette(routes=[Mount("/api", routes=[Route("/items/{item_id}", lambda request: PlainTextResponse("x"))])])
    await run(app, recording, http_scope("/api/items/3"))
    await run(app, recording, http_scope("/api/other/3"))
    assert recording.turn()["route"] == "/api/items/{item_id}"


def test_turns_inside_a_websocket_share_its_trace_and_session(recording: Recording) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            with turn(recording, name=text):
                observed()
            await websocket.send_text(text)

    app = TurntraceMiddleware(Starlette(routes=[WebSocketRoute("/ws", endpoint)]), turntrace=recording)
    with (
        TestClient(app) as client,
        client.websocket_connect("/ws", headers={"traceparent": PARENT, "x-session-id": "s1"}) as socket,
    ):
        for name in ("one", "two"):
            socket.send_text(name)
            assert socket.receive_text() == name
    ends = [document["turn"] for _, document in recording.frames]
    assert [(end["name"], end["session_id"], end["trace_id"]) for end in ends] == [
        ("one", "s1", PARENT[3:35]),
        ("two", "s1", PARENT[3:35]),
    ]
    assert len({end["id"] for end in ends}) == 2


def test_a_websocket_without_turns_of_its_own_is_one_turn(recording: Recording) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        observed()
        await websocket.close()

    app = TurntraceMiddleware(Starlette(routes=[WebSocketRoute("/ws/{room}", endpoint)]), turntrace=recording)
    with TestClient(app) as client, client.websocket_connect("/ws/7"):
        pass
    end = recording.turn()
    assert (end["source"], end["name"], end.get("outcome", "complete")) == (
        "websocket",
        "websocket /ws/{room}",
        "complete",
    )


@pytest.mark.parametrize("is_fault", [False, True])
def test_a_client_that_closes_its_websocket_is_no_error(recording: Recording, is_fault: bool) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        observed()
        if is_fault:
            raise ValueError("broken")
        await websocket.receive_text()

    app = TurntraceMiddleware(Starlette(routes=[WebSocketRoute("/ws", endpoint)]), turntrace=recording)
    raised = ValueError if is_fault else WebSocketDisconnect
    with pytest.raises(raised), TestClient(app) as client, client.websocket_connect("/ws"):
        pass
    end = recording.turn()
    assert "http_status" not in end  # it was accepted
    if is_fault:
        assert (end["outcome"], end["error"]["type"]) == ("interrupted", "ValueError")
    else:
        assert (end["outcome"], "error" in end, "client_left_us" in end) == ("client_disconnected", False, True)


def test_a_client_that_is_gone_in_a_message_of_its_own_is_no_error_of_it(recording: Recording) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        turn(recording, name="message"),
        observation(recording, "answer", type="generation"),
    ):
        raise WebSocketDisconnect(1006)
    (_, document) = recording.frames[-1]
    (step,) = document["spans"]
    assert (step.get("status"), step["own"]["level"], step["status_message"]) == (None, "warning", "the client left")
    end = recording.turn()
    assert (end["outcome"], "error" in end, "client_left_us" in end) == ("client_disconnected", False, True)


async def test_concurrent_requests_keep_apart(recording: Recording) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        for _ in range(3):
            observed(request.query_params["n"])
            await asyncio.sleep(0)
        return PlainTextResponse(request.query_params["n"])

    app = TurntraceMiddleware(Starlette(routes=[Route("/", endpoint)]), turntrace=recording)

    async def one(number: int) -> None:
        client = Client()
        await app(http_scope(query_string=f"n={number}".encode()), client.receive, client.send)

    await asyncio.gather(*(one(number) for number in range(50)))
    assert len(recording.frames) == 50
    for _, document in recording.frames:
        names = {span["name"] for span in document["spans"]}
        assert len(names) == 1
        assert len(document["spans"]) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", document["turn"]["id"]) for _, document in recording.frames)
