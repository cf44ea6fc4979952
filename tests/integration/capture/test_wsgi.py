"""The WSGI middleware, called as a server calls it."""

from collections.abc import Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import flask
import pytest

from tests.integration.capture.recording import Recording, Server, environ
from turntrace.capture.wsgi import TurntraceWSGIMiddleware
from turntrace.records.fragment import FrameKind
from turntrace.tracing.context import current_turn
from turntrace.tracing.observation import observation, update_trace

PARENT = "00-12345678901234567890123456789012-1234567890123456-00"


def observed(name: str = "step") -> None:
    with observation(None, name):
        pass


def wrapped(app: Any, recording: Recording, **options: Any) -> TurntraceWSGIMiddleware:
    return TurntraceWSGIMiddleware(app, turntrace=recording, **options)


def run(app: Any, recording: Recording, request: dict[str, Any] | None = None, **how: Any) -> Server:
    server = Server(recording.log).run(wrapped(app, recording), request or environ(), **how)
    assert current_turn() is None
    return server


def listing(*chunks: bytes, headers: Any = (), status: str = "200 OK") -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        observed()
        start_response(status, list(headers))
        return list(chunks)

    return app


def generating(*chunks: bytes, headers: Any = (), status: str = "200 OK") -> Any:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response(status, list(headers))
        observed()
        yield from chunks

    return app


def test_an_answer_carries_the_ids_of_its_turn(recording: Recording) -> None:
    server = run(listing(b"hi"), recording, environ("/chat", [("traceparent", PARENT)], REQUEST_METHOD="POST"))
    end = recording.turn()
    assert server.header("X-Trace-Id") == end["trace_id"] == PARENT[3:35]
    assert server.header("traceresponse") == f"00-{end['trace_id']}-{end['span_id']}-01"
    assert (end["name"], end["http_status"], end["bytes_sent"]) == ("POST /chat", 200, 2)
    assert "is_streamed" not in end


def test_a_list_stays_the_same_list(recording: Recording) -> None:
    answer = [b"a", b"", b"b"]

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        observed()
        return answer

    assert run(app, recording).result is answer
    assert recording.log == ["END", "sent:a", "sent:", "sent:b"]
    assert (recording.turn()["bytes_sent"], recording.turn()["chunk_count"]) == (2, 2)


@pytest.mark.parametrize(
    ("app", "order"),
    [
        (generating(b"a", b"b"), ["sent:a", "sent:b", "END"]),
        (generating(b"a", b"b", headers=[("Content-Length", "2")]), ["sent:a", "END", "sent:b"]),
        (generating(b"a", b"data: [DONE]\n\n"), ["sent:a", "END", "sent:data: [DONE]\n\n"]),
        (generating(), ["END"]),
        (generating(headers=[("Content-Length", "7")], status="304 Not Modified"), ["END"]),
    ],
)
def test_the_turn_is_written_before_the_answer_is_complete(app: Any, order: list[str]) -> None:
    recording = Recording()
    run(app, recording)
    assert recording.log == order
    assert recording.turn().get("outcome", "complete") == "complete"


def test_a_whole_answer_from_an_iterable_is_no_stream(recording: Recording) -> None:
    run(generating(b"whole", headers=[("Content-Length", "5")]), recording)
    assert "is_streamed" not in recording.turn()


def test_a_head_request_that_is_never_read_is_complete(recording: Recording) -> None:
    app = generating(b"x")
    request = environ(REQUEST_METHOD="HEAD")
    observing = wrapped(lambda env, start: (observed(), app(env, start))[1], recording)
    answer = observing(request, Server().start_response)
    answer.close()  # type: ignore[attr-defined]
    assert recording.turn().get("outcome", "complete") == "complete"


def test_a_stream_that_is_closed_early_was_left_by_the_client(recording: Recording) -> None:
    closed: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        with observation(None, "answer"):
            try:
                yield b"a"
                yield b"b"
            finally:
                closed.append(True)

    server = run(app, recording, pieces=1)
    assert closed == [True]
    assert server.chunks == [b"a"]
    end = recording.turn()
    assert (end["outcome"], end["bytes_sent"], end["received"]) == ("client_disconnected", 1, "a")
    assert "error" not in end


def test_an_exception_of_the_call_goes_on_as_the_same_object(recording: Recording) -> None:
    error = KeyError("gone")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        observed()
        raise error

    with pytest.raises(KeyError) as caught:
        run(app, recording)
    assert caught.value is error
    assert (recording.turn()["error"]["type"], recording.turn()["http_status"]) == ("KeyError", 500)
    assert current_turn() is None


def test_a_generator_that_fails_midway_is_interrupted(recording: Recording) -> None:
    error = RuntimeError("cut")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        observed()
        yield b"a"
        raise error

    with pytest.raises(RuntimeError) as caught:
        run(app, recording)
    assert caught.value is error
    end = recording.turn()
    assert (end["outcome"], end["error"]["message"], end["bytes_sent"]) == ("interrupted", "cut", 1)
    assert current_turn() is None


def test_what_close_does_late_is_amended(recording: Recording) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            observed("late")

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        observed("early")
        return Body()

    run(app, recording)
    assert recording.kinds() == ["END", "AMEND"]
    assert [span["name"] for span in recording.frames[1][1]["spans"]] == ["late"]


def test_an_error_page_after_a_head_counts_as_what_was_sent(recording: Recording) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        observed()
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("500 Oops", [], (ValueError, error, error.__traceback__))
        return [b"sorry"]

    server = run(app, recording)
    assert server.status == "500 Oops"
    assert [name for name, _ in server.headers] == ["X-Trace-Id", "traceresponse"]
    assert recording.turn()["http_status"] == 500


def test_the_imperative_write_is_counted(recording: Recording) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        observed()
        write = start_response("200 OK", [])
        write(b"abc")
        return [b"d"]

    server = run(app, recording)
    assert server.body == b"abcd"
    assert recording.turn()["bytes_sent"] == 4


def test_a_file_is_handed_on_as_it_is(recording: Recording, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def app(environ: Any, start_response: Any) -> Any:
        observed()
        start_response("200 OK", [("Content-Length", "7")])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    request = environ(**{"wsgi.file_wrapper": FileWrapper})
    server = run(app, recording, request)
    assert type(server.result) is FileWrapper
    assert server.body == b"content"
    assert recording.turn().get("outcome", "complete") == "complete"


def test_a_sized_iterable_keeps_its_length(recording: Recording) -> None:
    class Sized:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

    def app(environ: Any, start_response: Any) -> Sized:
        start_response("200 OK", [])
        return Sized()

    assert len(run(app, recording).result) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("kind", ["list", "generator", "empty"])
def test_it_passes_the_validator_inside_and_outside(method: str, kind: str) -> None:
    recording = Recording(record="all")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return {"list": [b"a"], "generator": (piece for piece in (b"a", b"b")), "empty": []}[kind]

    outer = validator(wrapped(validator(app), recording))
    handler = SimpleHandler(*_streams(), environ(REQUEST_METHOD=method))
    handler.run(outer)
    assert b"200 OK" in handler.stdout.getvalue()
    assert b"X-Trace-Id" in handler.stdout.getvalue()
    assert recording.turn().get("outcome", "complete") == "complete"


def _streams() -> tuple[Any, Any, Any]:
    import io

    return io.BytesIO(), io.BytesIO(), io.StringIO()


def test_a_server_derives_the_content_length_of_a_list(recording: Recording) -> None:
    handler = SimpleHandler(*_streams(), environ())
    handler.run(wrapped(listing(b"12345"), recording))  # type: ignore[arg-type]
    assert b"Content-Length: 5\r\n" in handler.stdout.getvalue()


def test_wrapped_twice_it_records_once(recording: Recording) -> None:
    server = run(wrapped(listing(b"x"), recording), recording)
    assert recording.kinds() == ["END"]
    assert [name for name, _ in server.headers] == ["X-Trace-Id", "traceresponse"]


def test_excluded_paths_and_the_kill_switch_leave_no_trace() -> None:
    for recording, path in ((Recording(record="all"), "/healthz"), (Recording(enabled=False), "/")):

        def app(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b"x"]

        request = environ(path)
        server = run(app, recording, request)
        assert server.headers == []
        assert recording.frames == []
        assert "turntrace.turn" not in request


def _flask() -> flask.Flask:
    app = flask.Flask(__name__)
    blueprint = flask.Blueprint("chats", __name__, url_prefix="/v1")

    @blueprint.get("/chats/<int:chat_id>")
    def chat(chat_id: int) -> str:
        update_trace(user_id="u")
        return "whole"

    @blueprint.get("/stream/<name>")
    def stream(name: str) -> flask.Response:
        def body() -> Iterator[str]:
            with observation(None, "outer"):
                yield "a"
                observed("inner")
                yield "b"

        return flask.Response(flask.stream_with_context(body()), mimetype="text/event-stream")

    @blueprint.get("/broken")
    def broken() -> str:
        observed()
        raise ValueError("inside")

    app.register_blueprint(blueprint)
    return app


def test_flask_answers_are_recorded_with_their_rule(recording: Recording) -> None:
    app = _flask()
    app.wsgi_app = wrapped(app.wsgi_app, recording)  # type: ignore[method-assign]
    response = app.test_client().get("/v1/chats/7?key=secret")
    end = recording.turn()
    assert (end["route"], end["name"]) == ("/v1/chats/<int:chat_id>", "GET /v1/chats/<int:chat_id>")
    assert response.headers["X-Trace-Id"] == end["trace_id"]
    assert response.headers["Content-Length"] == "5"
    assert "secret" not in str(recording.frames)
    assert "is_streamed" not in end


def test_a_flask_stream_is_one_turn_with_its_nesting(recording: Recording) -> None:
    app = _flask()
    app.wsgi_app = wrapped(app.wsgi_app, recording)  # type: ignore[method-assign]
    assert app.test_client().get("/v1/stream/x").text == "ab"
    end = recording.turn()
    assert (end["is_streamed"], end["received"], end["bytes_sent"]) == (True, "ab", 2)
    spans = {span["name"]: span for span in recording.frames[-1][1]["spans"]}
    assert spans["inner"]["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["outer"]["parent_span_id"] == end["span_id"]
    assert current_turn() is None


def test_an_error_that_flask_answers_is_a_turn_with_status_500(recording: Recording) -> None:
    app = _flask()
    app.wsgi_app = wrapped(app.wsgi_app, recording)  # type: ignore[method-assign]
    assert app.test_client().get("/v1/broken").status_code == 500
    assert recording.turn()["http_status"] == 500


async def _panel(scope: Any, receive: Any, send: Any) -> None:
    text = f"{scope['root_path']}|{scope['path']}|{current_turn()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text})


@pytest.mark.parametrize(
    ("path", "is_panel"),
    [("/llm-admin", True), ("/llm-admin/traces", True), ("/llm-administrator", False), ("/", False)],
)
def test_the_panel_is_served_below_its_path_and_never_recorded(path: str, is_panel: bool) -> None:
    recording = Recording(record="all")
    recording.panel_app = _panel
    request = environ(path, SCRIPT_NAME="/svc")
    server = run(listing(b"host"), recording, request)
    assert (request["PATH_INFO"], request["SCRIPT_NAME"]) == (path, "/svc")
    if is_panel:
        assert server.body.decode().startswith("/svc/llm-admin|")
        assert server.body.endswith(b"|None")
        assert recording.frames == []
    else:
        assert server.body == b"host"
        assert recording.kinds() == ["END"]


def test_the_panel_can_live_elsewhere_or_nowhere(recording: Recording) -> None:
    recording.panel_app = _panel
    elsewhere = wrapped(listing(b"host"), recording, panel_path="/ops/llm/")
    assert Server().run(elsewhere, environ("/ops/llm/x")).body != b"host"
    assert Server().run(elsewhere, environ("/llm-admin")).body == b"host"
    nowhere = wrapped(listing(b"host"), recording, panel_path=None)
    assert Server().run(nowhere, environ("/llm-admin")).body == b"host"
    for wrong in ("", "/", "llm-admin"):
        with pytest.raises(ValueError, match="panel_path"):
            wrapped(listing(), recording, panel_path=wrong)


def test_late_bytes_are_amended(recording: Recording) -> None:
    run(generating(b"data: [DONE]\n\n", b"more"), recording)
    assert recording.kinds() == ["END", "AMEND"]
    assert recording.turn(FrameKind.AMEND)["bytes_sent"] == 18
