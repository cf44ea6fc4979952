"""Every route, for every role: who sees numbers only reaches no text, whichever way is tried."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.integration.panel.conftest import MOUNT, add_people, context_of, mounted
from tests.integration.panel.scene import scene, store
from tests.integration.panel.visitor import Visitor
from turntrace import api
from turntrace.api.context import ApiContext
from turntrace.evaluation.queue import Queue, read_questions
from turntrace.jobs.erase import erase_at_once
from turntrace.keyring import KeyRing
from turntrace.panel import build
from turntrace.records.erasure import Target
from turntrace.records.observation import ErrorInfo
from turntrace.records.score import Score
from turntrace.records.trace import Trace
from turntrace.storage import comments, evaluators, migrate, people, queues, scores, tables, views
from turntrace.storage.database import Database
from turntrace.storage.queries.traces import list_traces

# It stands in every text of the turns; nothing else has it.
MARK = "zqcanary"
LINK = re.compile(r'(?:href|action|hx-get|src)="(/llm-admin[^"#]*)"')
# Forms that a viewer may send: their own session, looks and saved views.
OPEN_FORMS = {"/login", "/logout", "/theme", "/views", "/views/remove", "/views/delete"}
# Tried for a part of a path that no page links to.
WORDS = ("support", "answer", "1", "x")
MOST_PAGES = 110


def _marked(value: Any) -> Any:
    """The value with the mark in every text that people wrote; names and ids stay."""
    if isinstance(value, str):
        return f"{MARK} {value}"
    if isinstance(value, dict):
        return {key: item if key in ("role", "id", "type", "name") else _marked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_marked(item) for item in value)
    return value


def _error(error: ErrorInfo | None) -> ErrorInfo | None:
    return None if error is None else ErrorInfo(type=error.type, message=_marked(error.message), stack=_marked("at x"))


def _with_marks(trace: Trace) -> Trace:
    steps = []
    for step in trace.observations:
        names = ("input", "output", "query", "metadata", "documents", "input_documents", "tool_calls", "retrieval")
        marked = {name: _marked(getattr(step, name)) for name in names}
        prompt = step.prompt and replace(step.prompt, variables=_marked(step.prompt.variables))
        steps.append(replace(step, **marked, error=_error(step.error), status_message=_marked("status"), prompt=prompt))
    names = ("input", "output", "received", "metadata", "input_preview", "output_preview")
    return replace(
        trace,
        **{name: _marked(getattr(trace, name)) for name in names},
        feature_flags={"arm": MARK},
        error=_error(trace.error),
        observations=tuple(steps),
        scores=(),
    )


def _score(turn_id: str, kind: str, value: Any) -> Score:
    return Score(id=f"{kind}-{turn_id}"[:64], name=f"a-{kind}", value=value, data_type=kind, source="human",
                 turn_id=turn_id, comment=f"{MARK} comment", metadata={"why": MARK})  # fmt: skip


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Turns whose every text has the mark, with an account for each role."""
    folder: Path = tmp_path_factory.mktemp("roles")
    database = Database(f"sqlite:///{folder / 'turntrace.db'}")
    migrate.upgrade(database)
    add_people(database)
    now_us = time.time_ns() // 1000
    traces = [_with_marks(item) for item in scene(now_us, turns=30)]
    store(database, traces, now_us)
    for trace in traces[:8]:
        for kind, value in (("text", f"{MARK} said"), ("correction", f"{MARK} better"), ("boolean", True)):
            database.transact(scores.upsert, _score(trace.id, kind, value), now_us=now_us)
    _work_on(database, traces, now_us)
    yield database
    database.close()


def _work_on(database: Database, traces: list[Trace], now_us: int) -> None:
    """What people and evaluators make of turns: remarks, a queue with a review in hand, an evaluator, views."""
    with database.write() as c:
        for item in traces[:5]:
            comments.add(c, item.id, None, f"{MARK} remark", author="eve", now_us=now_us, quote=f"{MARK} passage")
        questions = read_questions(["verdict: good | bad"])
        queue = queues.put(c, Queue(id="", name="weekly", questions=questions), now_us=now_us)
        queues.fill(c, queue, [item.id for item in traces[:5]], now_us=now_us)
        assert queues.claim(c, queue, "annotator", now_us=now_us) is not None
        definition = {"name": "length", "kind": "check", "check": {"name": "length", "max": 10}}
        evaluators.create(c, definition, is_enabled=True, sealed=None, author="eve", now_us=now_us)
        for is_shared in (True, False):
            views.save(c, "traces", f"kept {is_shared}", f"q={MARK}", author="eve", is_shared=is_shared, now_us=now_us)
    target = Target(kind="turn", turn_ids=(traces[-1].id,))
    erase_at_once(database, target, KeyRing([b"k" * 32], is_explicit=True), actor="test")


@pytest.fixture(scope="module")
def marked_host(marked: Database) -> Starlette:
    return mounted(context_of(marked, redaction="off"))


def _paths_of(app: Any, method: str, seen: set[int] | None = None) -> set[str]:
    """Every path that an application routes, however it is wrapped."""
    seen = set() if seen is None else seen
    if id(app) in seen or not hasattr(app, "__dict__"):
        return set()
    seen.add(id(app))
    found: set[str] = set()
    for route in getattr(app, "routes", ()) or ():
        path = getattr(route, "path", "")
        inner = _paths_of(getattr(route, "app", None), method, seen) if not hasattr(route, "endpoint") else set()
        methods = getattr(route, "methods", None) or {"GET"}
        found |= {path + below for below in inner} if inner else ({path} if method in methods else set())
    for value in list(vars(app).values()):
        if callable(value) and type(value).__module__.startswith(("turntrace", "starlette")):
            found |= _paths_of(value, method, seen)
    return found


def _filled(paths: set[str], values: dict[str, tuple[str, ...]]) -> list[str]:
    """The paths with something in place of their parameters."""
    found: list[str] = []
    for path in sorted(paths):
        if path.startswith("/static") or "/statics" in path:
            continue
        names = re.findall(r"{(\w+)(?::\w+)?}", path)
        choices = values.get(names[0], WORDS) if names else ("",)
        for choice in choices:
            filled = path.replace(f"{{{names[0]}}}", quote(choice, safe="")) if names else path
            for name in names[1:]:
                filled = filled.replace(f"{{{name}}}", quote(values.get(name, WORDS)[0], safe=""))
            found.append(re.sub(r"{\w+(?::\w+)?}", quote(choice, safe=""), filled))
    return found


_NAMED = {"queue": tables.annotation_queue, "item": tables.queue_item, "evaluator": tables.evaluator,
          "erasure": tables.erasure}  # fmt: skip


def _ids(database: Database, table: Any) -> tuple[str, ...]:
    with database.read() as connection:
        claimed = table.c.status == "claimed" if table is tables.queue_item else True
        return (str(connection.execute(select(table.c.id).where(claimed)).scalars().first()),)


def _values(database: Database) -> dict[str, tuple[str, ...]]:
    with database.read() as connection:
        turns = list_traces(connection, limit=50).items
    failed = next(item for item in turns if item.status == "error")
    first = turns[0]
    ids = (first.id, failed.id, first.trace_id)
    return {
        "trace_id": ids,
        "turn_id": ids,
        "session_id": (first.session_id or "",),
        "user_id": (first.user_id or "",),
        **{f"{name}_id": _ids(database, table) for name, table in _NAMED.items()},
        "identity": ("api-key", "account", "price"),
    }


QUERIES = (
    "/traces?q=" + MARK,
    "/traces?score=a-text%3D" + quote(f"{MARK} said"),
    "/traces?score=a-correction&live=1",
    "/traces.csv?q=kettle",
    "/traces.jsonl",
    "/sessions?q=conv",
    "/users?q=user",
    "/traces?from=" + MARK,
    "/traces?min_cost=" + MARK,
    "/traces/" + MARK,
    "/nothing/" + MARK,
)


def _is_clean(text: str, path: str) -> bool:
    """What somebody typed into the address may stand in the answer; what was stored (it has more to it) may not."""
    return MARK not in text if MARK not in path else not re.search(rf"{MARK} (?!said)\w", text)


def _visit_all(visitor: Visitor, role: str, starts: list[str]) -> dict[str, int]:
    """Status by path: the routes, and for a viewer every page that a page links to."""
    answers: dict[str, int] = {}
    waiting = list(starts)
    while waiting and (len(answers) < MOST_PAGES or waiting[0] in starts):
        path = waiting.pop(0)
        if path in answers:
            continue
        answer = visitor.get(path)
        answers[path] = answer.status_code
        assert answer.status_code < 500, path
        if role != "viewer":
            continue
        assert _is_clean(answer.text, path), f"{path} shows a text"
        links = [link.replace("&amp;", "&").removeprefix(MOUNT) for link in LINK.findall(answer.text)]
        waiting += [link for link in links if "/static/" not in link]
    return answers


def test_a_reviewer_gets_to_no_page_but_their_queues(marked: Database, marked_host: Starlette) -> None:
    built = build(context_of(marked))
    with TestClient(marked_host, follow_redirects=False) as client:
        reviewer = Visitor(client).log_in("reviewer")
        turn = _values(marked)["trace_id"][0]
        for path in [*_filled(_paths_of(built, "GET") - {"/login"}, _values(marked)), *QUERIES]:
            if path.startswith("/queues"):
                continue
            answer = reviewer.get(path)
            assert MARK not in answer.text, path
            assert answer.status_code == (303 if path == "/" else 403), path
        for path in _filled(_paths_of(built, "POST") - OPEN_FORMS, _values(marked)):
            if not path.startswith("/queues"):
                assert reviewer.post(path, target=turn, name="thumbs", value="1", id=turn).status_code == 403, path


@pytest.mark.parametrize("role", people.ROLES[1:])
def test_no_route_shows_a_text_to_a_viewer_and_every_role_gets_its_pages(
    marked: Database, marked_host: Starlette, role: str
) -> None:
    paths = _paths_of(build(context_of(marked)), "GET")
    assert {"/", "/traces", "/traces/{trace_id}", "/sessions/{session_id:path}", "/system", "/traces.csv"} <= paths
    with TestClient(marked_host, follow_redirects=False) as client:
        visitor = Visitor(client).log_in(role)
        starts = [path for path in _filled(paths, _values(marked)) if path not in ("/login",)]
        answers = _visit_all(visitor, role, [*starts, *QUERIES])
    assert answers["/"] == 200
    assert set(starts) <= set(answers)
    exports = answers["/traces.csv"], answers["/traces.jsonl"]
    assert exports == ((403, 403) if role == "viewer" else (200, 200))
    admin = [status for path, status in answers.items() if path.startswith("/admin/") and path.endswith("/list")]
    assert set(admin) == ({200} if role == "admin" else {403})


def test_a_viewer_changes_nothing(marked: Database, marked_host: Starlette) -> None:
    paths = _paths_of(build(context_of(marked)), "POST") - OPEN_FORMS
    assert {"/scores", "/admin/account/role", "/admin/api-key/revoke"} <= paths
    with TestClient(marked_host, follow_redirects=False) as client:
        viewer = Visitor(client).log_in("viewer")
        turn = _values(marked)["trace_id"][0]
        for path in _filled(paths, _values(marked)):
            answer = viewer.post(path, target=turn, name="thumbs", value="1", id=turn, role="admin", next="/x")
            assert answer.status_code in (403, 404, 405), path
            assert MARK not in answer.text


def test_the_api_takes_no_panel_session(marked: Database) -> None:
    context = context_of(marked)
    inner = api.build(ApiContext(settings=context.settings, database=marked, loss=context.loss))
    host = mounted(replace(context, api=inner))
    with TestClient(host, follow_redirects=False) as client:
        visitor = Visitor(client).log_in("admin")
        for route, endpoint in inner._routes:  # type: ignore[attr-defined]
            for path in _filled({route.path}, _values(marked)):
                answer = client.request(endpoint.method, f"{MOUNT}/api/v1{path}", json={})
                assert answer.status_code == (200 if not endpoint.scopes else 401), path
                assert MARK not in answer.text
        assert visitor.get("/traces").status_code == 200


def test_a_viewer_learns_nothing_by_searching(marked_host: Starlette) -> None:
    with TestClient(marked_host, follow_redirects=False) as client:
        viewer = Visitor(client).log_in("viewer")
        for query in ("q=kettle", f"q={MARK}", "score=" + quote(f"a-text={MARK} said")):
            assert 'class="turn-link"' not in viewer.get(f"/traces?{query}").text
        assert 'class="turn-link"' in viewer.get("/traces?score=a-boolean").text


def test_readers_do_see_the_texts(marked: Database, marked_host: Starlette) -> None:
    """Or the test above would hold of a panel that shows nothing to anybody."""
    turn, queue = _values(marked)["trace_id"][0], _values(marked)["queue_id"][0]
    item = _values(marked)["item_id"][0]
    with TestClient(marked_host, follow_redirects=False) as client:
        annotator = Visitor(client).log_in("annotator")
        assert MARK in annotator.get(f"/queues/{queue}/items/{item}").text
    with TestClient(marked_host, follow_redirects=False) as client:
        reader = Visitor(client).log_in("reader")
        assert f"q={MARK}" in reader.get("/traces").text  # a shared view
        for path in ("/traces", f"/traces/{turn}", f"/traces/{turn}?observation=turn", "/traces.jsonl", "/traces.csv"):
            assert MARK in reader.get(path).text, path


def test_a_host_gives_people_a_tenants_share(marked: Database) -> None:
    now_us = time.time_ns() // 1000
    other = [replace(item, environment="acme", session_id="acme-talk") for item in scene(now_us, turns=3, seed=99)]
    store(marked, other, now_us)
    answers = {"name": "eva", "role": "admin", "scope": {"environment": "acme"}}
    with TestClient(mounted(context_of(marked, panel_auth=lambda _: answers)), follow_redirects=False) as client:
        eva = Visitor(client)
        shown = eva.get("/traces").text
        assert "acme-talk" in shown
        assert "3 traces" in shown
        assert MARK not in shown
        for path in ("/", "/sessions", "/users", "/cost", "/traces.jsonl"):
            assert MARK not in eva.get(path).text
            assert eva.get(path).status_code == 200
        for path in ("/system", "/admin/account/list", "/audit", "/privacy"):
            assert eva.get(path).status_code == 403
            for disguise in ("%0A", "%0D", "%00", "%0A/x"):  # routes match a line break behind a name
                assert eva.get(f"{path}{disguise}").status_code in (403, 404), path
        # An admin of a tenant changes nothing that is everybody's, and remarks on no turn of others.
        token = eva.token_on("/cost")
        forms = _paths_of(build(context_of(marked)), "POST") - {"/login", "/logout", "/theme"}
        foreign = _values(marked)["trace_id"][1]
        for path in _filled(forms, _values(marked)):
            form = {"target": foreign, "name": "foreign", "value": "1", "id": foreign, "text": "mine", "next": "/x"}
            answer = eva.post(path, token=token, **form)
            assert answer.status_code in (303, 400, 403, 404), path
            assert answer.status_code != 303 or path.startswith(("/scores", "/comments")), path
        with marked.read() as connection:
            assert connection.execute(select(tables.comment).where(tables.comment.c.author != "eve")).all() == []
            assert connection.execute(select(tables.score).where(tables.score.c.name == "foreign")).all() == []
        assert eva.get(f"/traces/{_values(marked)['trace_id'][1]}").status_code == 404
    for wrong in ({"team": "acme"}, "acme", {"environment": 3}):
        refusing = mounted(context_of(marked, panel_auth=lambda _, wrong=wrong: {**answers, "scope": wrong}))
        with TestClient(refusing, follow_redirects=False) as client:
            assert client.get(f"{MOUNT}/traces").status_code == 401
