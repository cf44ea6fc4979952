"""Personal data of two dozen kinds in every place a text can enter: found nowhere, not stored, not shown, not logged.

One application in this process, its worker stepped in by hand: first the spool is looked at with everything in it, then
all is worked on, then every byte of the database files, every page, every call and every export.
"""

import base64
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from tests.integration.otlp.inlet import generation, logs, request
from tests.integration.panel.conftest import add_people
from tests.integration.panel.visitor import Visitor
from tests.integration.redaction.test_closed import CANARIES
from turntrace import Turntrace, TurntraceMiddleware, assembly
from turntrace.spool.directory import WorkerLock
from turntrace.storage import keys, migrate, tables
from turntrace.storage.content import opened
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import list_traces
from turntrace.tracing.provider import TurntraceTracerProvider

SECRET = "0123456789abcdef" * 4
MOUNT = "/llm-admin"
Told = tuple[Turntrace, Database, TestClient, Visitor, dict[str, bytes]]


def _forms(value: str) -> set[bytes]:
    """A value as it may stand in a file: as it is, in JSON, in an address, in base64 at any offset."""
    texts = {value, json.dumps(value)[1:-1], quote(value), quote(value, safe="")}
    found = {text.encode() for text in texts}
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + value.encode())
        found.add(encoded[4:-4])
    return {form for form in found if len(form) >= 8}


FORMS = {kind: _forms(value) for kind, (_, value) in CANARIES.items()}


def _leaks(data: bytes | str) -> list[str]:
    """Kinds of canaries that stand in some bytes."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return [kind for kind, forms in FORMS.items() if any(form in raw for form in forms)]


def _leaking(files: dict[str, bytes]) -> dict[str, list[str]]:
    """The files that hold canaries, and which."""
    found = {name: _leaks(data) for name, data in files.items()}
    return {name: kinds for name, kinds in found.items() if kinds}


def _application(tt: Turntrace) -> Starlette:
    """Every way in that the library has, with the text of the request."""
    tracer = TurntraceTracerProvider(tt.recorder).get_tracer("third.party")

    @tt.observe(type="tool", name="look-up")
    def look_up(argument: str, *, option: dict[str, str]) -> str:
        return f"found {argument}"

    @tt.observe(type="tool", name="breaks")
    def breaks(argument: str) -> None:
        raise ValueError(argument)

    def others(text: str) -> None:
        with tracer.start_as_current_span(
            text, attributes={"gen_ai.prompt": text, "url.full": f"https://x/?q={text}"}
        ) as span:
            span.add_event(text, {"body": text, "list": [text]})
            span.record_exception(RuntimeError(text))
            span.set_attribute("custom", [text, "b"])

    def steps(text: str) -> None:
        messages = [{"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]}]
        call = {"id": "1", "function": {"name": "f", "arguments": json.dumps({"value": text})}}
        with tt.generation("answer", model="m", provider="p", input=messages, parameters={"stop": [text]}) as step:
            step.update(output=[{"role": "assistant", "content": text, "tool_calls": [call]}], tool_calls=[call],
                        tool_definitions=[{"name": "f", "description": text}], status_message=text, tags=[text],
                        prompt={"name": "p", "variables": {"v": text}}, metadata={"deep": {"er": [text]}})  # fmt: skip
        documents = [{"id": "1", "content": f"long {'words ' * 2000}\n{text}", "metadata": {"source": text}}]
        with tt.observation("search", type="retrieval", input=text) as step:
            step.update(
                query=text, documents=documents, retrieval={"data_source": text}, output=json.dumps({"a": text})
            )
        with tt.observation("rerank", type="reranker") as step:
            step.update(input_documents=documents, documents=documents)
        with tt.observation(text, type="span", metadata={"m": text}, level="warning"):
            look_up(text, option={"o": text})

    async def ask(request: Request) -> Response:
        text = (await request.json())["text"]
        tt.update_trace(
            name=text,
            input={"question": text, "header": request.headers.get("x-text", "")},
            output=text,
            feature_flags={"flag": text},
            metadata={"query": str(request.url), text: text},
            tags=[text],
        )
        steps(text)
        others(text)
        tt.score("note", text, data_type="text", comment=text)
        return JSONResponse({"echo": text})

    async def stream(request: Request) -> Response:
        text = (await request.json())["text"]
        tt.update_trace(session_id="streams")

        async def body() -> Any:
            for start in range(0, len(text), 3):
                yield f"data: {json.dumps({'delta': {'content': text[start : start + 3]}})}\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    async def fail(request: Request) -> Response:
        text = (await request.json())["text"]
        try:
            breaks(text)
        except ValueError:
            logging.getLogger("shop").info("a tool failed")
        raise RuntimeError(f"could not answer: {text}")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        text = await socket.receive_text()
        with tt.generation("answer", model="m", provider="p", input=text) as step:
            step.update(output=text)
        await socket.send_json({"echo": text})
        await socket.close(1008, text[:100])

    routes = [Route("/ask", ask, methods=["POST"]), Route("/stream", stream, methods=["POST"])]
    routes += [WebSocketRoute("/talk", talk)]
    routes += [Route("/fail", fail, methods=["POST"]), Mount(MOUNT, app=tt.panel())]
    app = Starlette(routes=routes)
    app.add_middleware(TurntraceMiddleware, turntrace=tt)
    return app


def _send(client: TestClient, text: str, number: int, ingest: dict[str, str]) -> None:
    """One text by every way in."""
    header = quote(text)
    assert client.post(f"/ask?q={quote(text)}", json={"text": text}, headers={"x-text": header}).status_code == 200
    assert text[:3] in client.post("/stream", json={"text": text}).text
    assert client.post("/fail", json={"text": text}).status_code == 500
    assert client.get(f"/nowhere/{quote(text, safe='')}").status_code == 404
    with client.websocket_connect(f"/talk?q={quote(text)}", headers={"x-text": header}) as socket:
        socket.send_text(text)
        assert socket.receive_json() == {"echo": text}
    sent = generation(
        1000 + number, 1, **{"gen_ai.prompt.0.content": text, "gen_ai.completion.0.content": text, "custom": text}
    )
    sent |= {"name": text, "status": {"code": 2, "message": text}}
    sent["events"] = [{"name": text, "timeUnixNano": "1790000000000000000",
                       "attributes": [{"key": "body", "value": {"stringValue": text}}]}]  # fmt: skip
    record = {
        "timeUnixNano": "1790000000000000000",
        "eventName": "gen_ai.user.message",
        "traceId": f"{1000 + number:032x}",
        "spanId": f"{1:016x}",
        "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": text}}]}},
        "attributes": [{"key": "event.name", "value": {"stringValue": "gen_ai.user.message"}}],
    }
    judged = {
        **record,
        "eventName": "gen_ai.evaluation.result",
        "attributes": [
            {"key": key, "value": {"stringValue": said}}
            for key, said in (
                ("event.name", "gen_ai.evaluation.result"), ("gen_ai.evaluation.name", "tone"),
                ("gen_ai.evaluation.score.label", text), ("gen_ai.evaluation.explanation", text),
            )
        ],
    }  # fmt: skip
    for path, document in (("traces", request(sent)), ("logs", logs(record)), ("logs", logs(judged))):
        answer = client.post(f"{MOUNT}/otlp/v1/{path}", json=document, headers=ingest)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(scope="module")
def log(home: Path) -> Iterator[list[str]]:
    """Every line that anything logs, at every level."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    root = logging.getLogger("turntrace")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _work(tt: Turntrace) -> None:
    """The worker, until everything is stored."""
    location = tt.recorder.location
    assert location is not None
    assert location.path is not None
    assert tt.recorder.keys is not None
    lock, stop = WorkerLock(location.path), threading.Event()
    assert lock.acquire()
    thread = threading.Thread(target=assembly.work, args=(tt.settings, location.path, tt.recorder.keys, stop))
    thread.start()
    try:
        assert tt.flush(timeout_seconds=120)
    finally:
        stop.set()
        thread.join(timeout=60)
        lock.release()


@pytest.fixture(scope="module")
def told(home: Path, log: list[str]) -> Iterator[Told]:
    """An application that was told every canary by every way in, and what its spool held before the worker began."""
    url = f"sqlite:///{home / 'turntrace.db'}"
    database = Database(url)
    migrate.upgrade(database)
    add_people(database)
    with database.write() as c:
        made = {
            scope: keys.create(c, name=scope, scopes=(scope,), now_us=1).key for scope in ("ingest", "read", "write")
        }
    tt = Turntrace(url, spool_dir=str(home / "spool"), worker="external", record="all", secret_key=SECRET,
                   redaction_seconds=30, trusted_context="all")  # fmt: skip
    with TestClient(_application(tt), raise_server_exceptions=False, follow_redirects=False) as client:
        for number, (frame, value) in enumerate(CANARIES.values()):
            text = f"Hello, {frame.format(value)}"
            _send(client, text, number, {"Authorization": f"Bearer {made['ingest']}"})
        spooled = _files(home / "spool")
        _work(tt)
        client.headers["authorization"] = f"Bearer {made['read']}"
        client.write_key = made["write"]  # type: ignore[attr-defined]
        yield tt, database, client, Visitor(client).log_in("admin"), spooled
    tt.shutdown()
    database.close()


def test_nothing_stands_in_the_spool_in_clear(told: Told) -> None:
    _, _, _, _, spooled = told
    assert sum(map(len, spooled.values())) > 500_000
    assert _leaking(spooled) == {}


def test_nothing_stands_in_the_database(told: Told, home: Path) -> None:
    _, database, _, _, _ = told
    held: list[str] = []
    with database.read() as c:
        for name, table in tables.metadata.tables.items():
            for row in c.execute(select(table)):
                found = _leaks(repr(tuple(row)))
                if table is tables.content:
                    found += _leaks(json.dumps(vars(_Opened(opened(c, row))), default=str, ensure_ascii=False))
                held += [f"{name}: {kind}" for kind in found]
        turns = list_traces(c, limit=500).items
    assert held == []
    # The ask, the stream, the failure, the unknown address, the talk and the trace received, of every kind.
    assert len(turns) == 6 * len(CANARIES)
    assert sum(turn.redaction_failed for turn in turns) == 0
    assert _leaking(_files(home)) == {}


class _Opened:
    def __init__(self, content: Any) -> None:
        self.trace, self.observations = content.trace, content.observations


def test_nothing_is_shown_by_pages_calls_and_exports(told: Told) -> None:
    _, database, client, admin, _ = told
    with database.read() as c:
        turns = list_traces(c, limit=500).items
    paths = ["/", "/traces", "/sessions", "/users", "/cost", "/system", "/audit", "/traces.csv", "/traces.jsonl",
             "/sessions/streams", "/quality"]  # fmt: skip
    paths += [f"/traces/{turn.id}?observation=turn" for turn in turns]
    pages = {path: admin.get(path) for path in paths}
    assert {path for path, page in pages.items() if page.status_code != 200} == set()
    shown = {path: _leaks(page.text) for path, page in pages.items()}
    assert {path: found for path, found in shown.items() if found} == {}
    assert sum('class="pii"' in page.text for page in pages.values()) > 3 * len(CANARIES)
    calls = [
        "/traces?limit=500",
        "/observations?limit=1000",
        "/scores?limit=500",
        "/sessions",
        "/costs",
        "/sessions/streams",
    ]
    calls += [f"/traces/{turn.id}" for turn in turns]
    answered = {path: _leaks(client.get(f"{MOUNT}/api/v1{path}").text) for path in calls}
    assert {path: found for path, found in answered.items() if found} == {}


def test_nothing_of_what_people_write_about_turns_is_stored(told: Told) -> None:
    _, database, client, admin, _ = told
    with database.read() as c:
        turn = list_traces(c, limit=1).items[0]
    headers = {"Authorization": f"Bearer {client.write_key}"}  # type: ignore[attr-defined]
    for frame, value in list(CANARIES.values())[::4]:
        text = f"Hello, {frame.format(value)}"
        form = {"target": turn.id, "name": "said", "data_type": "text", "value": text, "comment": text}
        assert admin.post("/scores", **form).status_code == 303
        assert admin.post("/comments", target=turn.id, text=text, quote=text).status_code == 303
        # Filters by user and session are kept in views, and found by an erasure; words are not, if they name somebody.
        for name, query in ((text, "status=error"), ("mine", f"q={quote(text)}")):
            assert admin.post("/views", name=name, query=query).status_code == 400
        queue = {
            "name": f"read {len(value)}",
            "instructions": text,
            "questions": "verdict: good | bad",
            "reviewers": "1",
        }
        assert admin.post("/queues/save", **queue).status_code == 303
        body = {"name": f"{text[:90]}", "instructions": text, "questions": ["verdict: good | bad"]}
        made = client.post(f"{MOUNT}/api/v1/annotation-queues", json=body, headers=headers)
        assert made.status_code in (201, 400), made.text  # a name that is withheld may be taken
        body = {"name": "why", "value": text, "data_type": "text", "comment": text, "trace_id": turn.id}
        assert client.post(f"{MOUNT}/api/v1/scores", json=body, headers=headers).status_code == 201
    with database.read() as c:
        held = [
            _leaks(repr(row))
            for table in (tables.score, tables.comment, tables.audit, tables.annotation_queue, tables.saved_view)
            for row in c.execute(select(table))
        ]
    assert [found for found in held if found] == []


def test_nothing_is_logged(told: Told, log: list[str]) -> None:
    assert _leaks("\n".join(log)) == []
