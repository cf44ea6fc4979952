"""What is believed of a request: session, user and baggage, through both middlewares."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.integration.capture.recording import Client, Recording, Server, environ, http_scope
from turntrace.capture.asgi import TurntraceMiddleware
from turntrace.capture.wsgi import TurntraceWSGIMiddleware
from turntrace.settings import Settings
from turntrace.tracing.observation import observation, update_trace
from turntrace.tracing.outgoing import inject
from turntrace.tracing.trust import HostRules

PARENT = "00-12345678901234567890123456789012-1234567890123456-01"


async def through_asgi(recording: Recording, headers: Any, peer: str | None, query: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        update_trace(name="seen")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    client = Client()
    address = (peer, 1) if peer else None
    scope = http_scope("/", headers, client=address, query_string=query.encode())
    await TurntraceMiddleware(app, turntrace=recording)(scope, client.receive, client.send)


async def through_wsgi(recording: Recording, headers: Any, peer: str | None, query: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        update_trace(name="seen")
        start_response("200 OK", [])
        return []

    request = environ("/", headers, REMOTE_ADDR=peer or "", QUERY_STRING=query)
    Server().run(TurntraceWSGIMiddleware(app, turntrace=recording), request)


BOTH = pytest.mark.parametrize("send", [through_asgi, through_wsgi])


@BOTH
@pytest.mark.parametrize(
    ("settings", "headers", "query", "session_id"),
    [
        ({}, [("X-Session-Id", " s1 ")], "", "s1"),
        ({}, [("X-Session-Id", "")], "", None),
        ({}, [("X-Session-Id", "é".encode().decode("latin-1"))], "", "é"),
        ({}, [("X-Session-Id", "\xe9")], "", "é"),
        ({}, [("baggage", "session.id=b%201")], "", "b 1"),
        ({}, [("X-Session-Id", "s1"), ("baggage", "session.id=b1")], "", "s1"),
        ({"session_header": "X-Chat"}, [("x-chat", "c"), ("x-session-id", "s")], "", "c"),
        ({"session_cookie": "sid"}, [("cookie", 'a=1; sid="c1"; b=2')], "", "c1"),
        ({"session_cookie": "sid"}, [("cookie", "xsid=1")], "", None),
        ({"session_query": "chat"}, [], "a=1&chat=q%201&chat=2", "q 1"),
        ({"session_query": "chat", "session_cookie": "sid"}, [("cookie", "sid=c")], "chat=q", "c"),
        ({"baggage_keys": ("user.id",)}, [("baggage", "session.id=b1")], "", None),
    ],
)
async def test_the_session_is_found_where_the_settings_say(
    send: Any, settings: Any, headers: Any, query: str, session_id: str | None
) -> None:
    recording = Recording(**settings)
    await send(recording, headers, "127.0.0.1", query)
    assert recording.turn().get("session_id") == session_id


@BOTH
async def test_only_named_baggage_is_read(send: Any) -> None:
    header = [("baggage", "user.id=u,feature=chat,experiment=e1,tags=a%2Cb,secret=x")]
    recording = Recording(baggage_keys=("user.id", "feature", "experiment", "tags"))
    await send(recording, header, "127.0.0.1", "")
    end = recording.turn()
    assert (end["user_id"], end["feature"], end["experiment"], end["tags"]) == ("u", "chat", "e1", ["a", "b"])
    plain = Recording()
    await send(plain, header, "127.0.0.1", "")
    assert not {"user_id", "feature", "experiment", "tags"} & set(plain.turn())
    assert "secret" not in str(recording.frames)


@BOTH
@pytest.mark.parametrize(
    ("trusted", "peer", "continues", "believes"),
    [
        ("all", "203.0.113.9", True, False),
        ("all", "127.0.0.1", True, True),
        ("none", "203.0.113.9", False, False),
        ("10.0.0.0/8", "10.9.9.9", True, True),
        ("10.0.0.0/8", "203.0.113.9", False, False),
        ("10.0.0.0/8", None, False, False),
        ("all", None, True, False),
    ],
)
async def test_peers_are_believed_as_far_as_the_settings_trust_them(
    send: Any, trusted: str, peer: str | None, continues: bool, believes: bool
) -> None:
    recording = Recording(trusted_context=trusted)
    headers = [("traceparent", PARENT), ("tracestate", "a=1"), ("baggage", "session.id=b"), ("x-request-id", "r1")]
    await send(recording, headers, peer, "")
    end = recording.turn()
    assert (end["trace_id"] == PARENT[3:35]) is continues
    assert (end.get("parent_span_id") == PARENT[36:52]) is continues
    assert end.get("session_id") == ("b" if believes else None)
    assert end["request_id"] == "r1"


@BOTH
async def test_callables_of_the_host_give_session_and_user(send: Any) -> None:
    seen: list[Any] = []

    def user(carrier: Any) -> Any:
        seen.append(carrier)
        return 42

    recording = Recording(session_id=lambda carrier: "from-callable", user_id=user)
    await send(recording, [], "127.0.0.1", "")
    end = recording.turn()
    assert (end["session_id"], end["user_id"]) == ("from-callable", "42")
    assert len(seen) == 1
    assert seen[0].get("path", seen[0].get("PATH_INFO")) == "/"


@BOTH
async def test_a_callable_that_fails_is_counted_and_costs_nothing_else(send: Any) -> None:
    def broken(carrier: Any) -> str:
        raise KeyError("no session")

    recording = Recording(session_id=broken, user_id=broken)
    recording.guard.reraise = False
    for _ in range(30):
        await send(recording, [], "127.0.0.1", "")
    assert len(recording.frames) == 30
    assert recording.frames[0][1]["turn"]["flags"] == ["session_id_failed", "user_id_failed"]
    assert recording.guard.faults() == {"setting.session_id": 30, "setting.user_id": 30}
    assert recording.guard.is_recording()


async def test_callables_see_what_the_applications_own_middleware_found() -> None:
    recording = Recording(user_id=lambda scope: scope["session"].get("user"))

    async def login(request: Request) -> PlainTextResponse:
        request.session["user"] = "anna"
        update_trace(name="login")
        return PlainTextResponse("x")

    inner = Starlette(routes=[Route("/", login)], middleware=[Middleware(SessionMiddleware, secret_key="not a secret")])
    client = Client()
    await TurntraceMiddleware(inner, turntrace=recording)(http_scope(), client.receive, client.send)
    assert recording.turn()["user_id"] == "anna"


async def test_what_the_application_says_goes_before_its_callables() -> None:
    recording = Recording(user_id=lambda scope: "from-callable")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        update_trace(user_id="said")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    client = Client()
    await TurntraceMiddleware(app, turntrace=recording)(http_scope(), client.receive, client.send)
    assert recording.turn()["user_id"] == "said"


async def test_callables_are_not_asked_for_requests_that_leave_no_trace() -> None:
    asked: list[Any] = []
    recording = Recording(user_id=asked.append)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    client = Client()
    await TurntraceMiddleware(app, turntrace=recording)(http_scope(), client.receive, client.send)
    assert asked == []


@contextmanager
def _inside(recording: Recording) -> Iterator[dict[str, Any]]:
    from turntrace.tracing.observation import turn

    with turn(recording, session_id="s 1") as current:
        assert current is not None
        yield {"trace_id": current.trace_id, "span_id": current.span_id}


def test_outgoing_calls_carry_the_context_of_the_innermost_observation(recording: Recording) -> None:
    allows = HostRules(Settings().propagate_hosts).allows
    with _inside(recording) as ids, observation(recording, "call", type="tool"):
        headers: dict[str, str] = {}
        inject(headers, url="http://127.0.0.1:9/x", allows=allows)
    span = recording.frames[-1][1]["spans"][0]
    assert headers == {
        "traceparent": f"00-{ids['trace_id']}-{span['span_id']}-03",
        "baggage": "session.id=s%201",
    }


def test_calls_outside_any_observation_get_parent_ids_of_their_own(recording: Recording) -> None:
    with _inside(recording) as ids:
        sent = [{}, {}]
        for headers in sent:
            inject(headers, allows=lambda host: True)
    parents = {headers["traceparent"][36:52] for headers in sent}
    assert len(parents) == 2
    assert ids["span_id"] not in parents
    assert {headers["traceparent"][3:35] for headers in sent} == {ids["trace_id"]}


def test_a_session_never_travels_to_a_public_host(recording: Recording) -> None:
    allows = HostRules(Settings().propagate_hosts).allows
    with _inside(recording):
        for url in ("https://api.openai.com/v1/chat", None):
            headers: dict[str, str] = {}
            inject(headers, url=url, allows=allows)
            assert list(headers) == ["traceparent"]


def test_outside_any_turn_nothing_is_injected() -> None:
    headers = {"traceparent": "of the host"}
    inject(headers, allows=lambda host: True)
    assert headers == {"traceparent": "of the host"}
