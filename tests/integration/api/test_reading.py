"""What the calls answer, checked against the schemas of the document itself."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import client_of, make_key
from tests.integration.turns import START_US, failed, in_progress, store, turn
from turntrace.api.components import COMPONENTS, page
from turntrace.api.schema import check, reference
from turntrace.records.fragment import FrameKind
from turntrace.storage.database import Database

pytestmark = pytest.mark.anyio

_TRACE = (
    "id trace_id name session_id user_id feature experiment environment release tags metadata status started_at "
    "duration_ms ttft_ms input output usage cost scores observations"
)
_OBSERVATION = (
    "id trace_id span_id parent_id type name level status error started_at duration_ms ttft_ms model model_requested "
    "provider parameters usage cost finish_reasons response_id input output tool_calls tool_definitions tool_name "
    "tool_call_id agent_name query retrieval documents input_documents prompt session_id user_id tags metadata"
)


async def _get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_trace_has_the_shape_of_the_contract_on_every_database(database: Database) -> None:
    stored = turn(metadata={"plan": "pro"}, tags=("a",))
    store(database, stored)
    async with client_of(database, **make_key(database, "read")) as client:
        found = await _get(client, f"/traces/{stored.trace_id}")
        same = await _get(client, f"/traces/{stored.id.upper()}")
        listed = await _get(client, "/traces")
        observations = await _get(client, "/observations")
    assert found == same
    check(found, reference("Trace"), COMPONENTS)
    check(listed, page("Trace"), COMPONENTS)
    check(observations, page("Observation"), COMPONENTS)
    assert found.keys() >= set(_TRACE.split())
    assert listed["data"][0].keys() == found.keys()
    generation = found["observations"][1]
    assert generation.keys() >= set(_OBSERVATION.split())
    assert generation["parent_id"] == found["observations"][0]["id"]
    assert generation["usage"] == {"input": 100, "output": 20, "cache_read": 50, "cache_write": None, "reasoning": 5}
    assert generation["cost"] == {"input": "0.0005", "output": "0.001", "total": "0.0015"}
    assert found["cost"]["total"] == "0.0015"
    started = datetime.fromtimestamp(stored.started_at_us / 1e6, UTC)
    assert found["started_at"] == started.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert found["started_at"].endswith("Z")
    assert (found["duration_ms"], found["ttft_ms"], found["turn_ids"]) == (800.0, 200.0, [stored.id])


async def test_lists_page_through_everything_once(client: httpx.AsyncClient, small: Database) -> None:
    store(small, *(turn(started_at_us=START_US) for _ in range(7)))
    seen, cursor = [], None
    while True:
        parameters = {"limit": 3} if cursor is None else {"limit": 3, "cursor": cursor}
        found = await _get(client, "/traces", **parameters)
        seen += [trace["id"] for trace in found["data"]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7


async def test_every_filter_of_the_contract_is_taken(client: httpx.AsyncClient, small: Database) -> None:
    stored = turn(experiment="tone", release="v2", tags=("vip",))
    store(small, stored, failed(session_id="x"))
    filters = {
        "from": "2026-11-20T10:00:00+00:00",
        "to": "2026-11-21",
        "session_id": "s-1",
        "user_id": "u-1",
        "feature": "support",
        "experiment": "tone",
        "environment": "default",
        "release": "v2",
        "model": "gpt-4o-mini",
        "type": "generation",
        "status": "ok",
        "min_cost": "0.0015",
        "min_duration_ms": "800",
        "tag": "vip",
        "q": "descale",
    }
    for path in ("/traces", "/observations"):
        found = await _get(
            client,
            path,
            **{**filters, "q": "answer" if path == "/observations" else "descale"}
            | ({"min_duration_ms": "700"} if path == "/observations" else {}),
        )
        assert len(found["data"]) == 1, path
        assert (await _get(client, path, score="quality>0.5"))["data"] == []
        assert (await _get(client, path, prompt="support@3"))["data"] == []


async def test_turns_that_share_a_trace_id_are_answered_together(client: httpx.AsyncClient, small: Database) -> None:
    shared = "c" * 32
    outer = turn(trace_id=shared, started_at_us=START_US, duration_us=5_000_000)
    inner = turn(
        trace_id=shared, started_at_us=START_US + 1_000_000, parent_span_id="2" * 16, status="error", session_id="deep"
    )
    store(small, inner, outer)
    found = await _get(client, f"/traces/{shared}")
    assert (found["id"], found["turn_ids"]) == (outer.id, [outer.id, inner.id])
    assert (found["status"], found["duration_ms"], found["cost"]["total"]) == ("error", 5000.0, "0.003")
    assert found["usage"]["input"] == 200
    by_id = {step["id"]: step for step in found["observations"]}
    assert len(by_id) == 4
    # the inner turn hangs below the step of the outer one that called it
    assert by_id[inner.id + "1" * 16]["parent_id"] == outer.id + "2" * 16
    assert all(step["parent_id"] is None or step["parent_id"] in by_id for step in by_id.values())
    assert (await _get(client, f"/traces/{inner.id}"))["turn_ids"] == [inner.id]


async def test_placeholders_are_numbered_per_trace(client: httpx.AsyncClient, small: Database) -> None:
    stored = turn(
        input="mail <EMAIL_k0000000a> or <EMAIL_k0000000b>",
        output="sent to <EMAIL_k0000000b>",
        input_preview="mail <EMAIL_k0000000a>",
    )
    store(small, stored)
    found = await _get(client, f"/traces/{stored.id}")
    assert (found["input"], found["output"]) == ("mail <EMAIL_1> or <EMAIL_2>", "sent to <EMAIL_2>")
    assert (await _get(client, "/traces"))["data"][0]["input"] == "mail <EMAIL_1>"


async def test_text_that_json_cannot_carry_is_escaped(client: httpx.AsyncClient, small: Database) -> None:
    stored = turn(output="<script>alert('x')</script> \U0001f600 \u2028", metadata={"big": 2**70})
    store(small, stored)
    found = await _get(client, f"/traces/{stored.id}")
    assert found["output"] == stored.output
    assert found["metadata"]["big"] in (2**70, str(2**70), float(2**70))


async def test_a_session_has_its_traces_in_order_with_content(client: httpx.AsyncClient, small: Database) -> None:
    for number in range(3):
        store(small, turn(session_id="chat/1 ü", started_at_us=START_US + number, output=f"answer {number}"))
    store(small, in_progress(session_id="chat/1 ü", started_at_us=START_US + 9), kind=FrameKind.START)
    listed = await _get(client, "/sessions")
    found = await _get(client, "/sessions/chat%2F1%20%C3%BC")
    check(listed, page("Session"), COMPONENTS)
    check(found, reference("Session"), COMPONENTS)
    assert [trace["output"] for trace in found["traces"]][:3] == ["answer 0", "answer 1", "answer 2"]
    assert (found["id"], found["trace_count"], found["cost"]) == ("chat/1 ü", 3, "0.0045")
    assert found["traces"][3]["outcome"] == "in_progress"
    assert found["traces"][0]["observations"][1]["output"] == "With vinegar."


async def test_a_session_id_of_two_users_asks_which(client: httpx.AsyncClient, small: Database) -> None:
    store(small, turn(session_id="s", user_id="a"), turn(session_id="s", user_id="b"))
    answer = await client.get("/sessions/s")
    assert (answer.status_code, answer.json()["user_ids"]) == (409, ["a", "b"])
    assert (await _get(client, "/sessions/s", user_id="b"))["user_id"] == "b"


async def test_costs_are_exact_strings_with_the_names_of_the_groups(client: httpx.AsyncClient, small: Database) -> None:
    store(
        small, turn(cost_nano=1), turn(cost_nano=123_456_789_012), turn(model="mystery", cost_nano=None, feature=None)
    )
    found = await _get(client, "/costs", group_by="model,feature", interval="day")
    check(found, page("CostRow"), COMPONENTS)
    rows = {row["model"]: row for row in found["data"]}
    assert rows["gpt-4o-mini"]["cost"] == "123.456789013"
    assert (rows["gpt-4o-mini"]["requests"], rows["gpt-4o-mini"]["start"]) == (2, "2026-11-20T00:00:00.000000Z")
    assert (rows["mystery"]["cost"], rows["mystery"]["feature"]) == (None, None)
    (total,) = (await _get(client, "/costs"))["data"]
    assert (total["requests"], total["cost"], "start" in total) == (3, "123.456789013", False)
    repeated = await client.get("/costs?group_by=model&group_by=feature&limit=1")
    assert len(repeated.json()["data"]) == 1
    rest = await _get(client, "/costs", group_by="model,feature", limit=1, cursor=repeated.json()["next_cursor"])
    assert (len(rest["data"]), rest["next_cursor"]) == (1, None)


async def test_health_holds_nothing_and_loss_the_balance(client: httpx.AsyncClient) -> None:
    assert await _get(client, "/health") == {"status": "ok"}
    loss = await _get(client, "/loss")
    check(loss, reference("Loss"), COMPONENTS)
    assert loss == {
        "accepted": 3,
        "stored": 1,
        "sampled": 1,
        "erased": 0,
        "in_spool": 0,
        "dropped": {"poison": 1},
    }


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/traces?colour=red", "session_id"),
        ("/traces?limit=0", "1..1000"),
        ("/traces?limit=1001", "1..1000"),
        ("/traces?limit=ten", "1..1000"),
        ("/traces?limit=1&limit=2", "twice"),
        ("/traces?user_id=", "empty"),
        ("/traces?user_id=%00", "printable"),
        ("/traces?from=yesterday", "2026-11-21T09:30:00Z"),
        ("/traces?from=2026-13-01", "no such time"),
        ("/traces?from=2026-11-21&to=2026-11-20", "later than"),
        ("/traces?type=thought", "generation"),
        ("/traces?status=great", "interrupted"),
        ("/traces?min_cost=NaN", "not negative"),
        ("/traces?min_cost=-1", "not negative"),
        ("/traces?min_duration_ms=1e999", "not negative"),
        ("/traces?cursor=abc", "next_cursor"),
        ("/traces?score=%3C3", "name=value"),
        ("/traces?q=" + "x" * 501, "500"),
        ("/traces/" + "a" * 32 + "?limit=1", "none"),
        ("/costs?group_by=colour", "model, provider"),
        ("/costs?group_by=user,session", "any of"),
        ("/costs?interval=week", "month"),
        ("/loss?x=1", "none"),
        ("/health?x=1", "none"),
    ],
)
async def test_a_wrong_parameter_is_named_with_what_is_allowed(
    client: httpx.AsyncClient, path: str, named: str
) -> None:
    answer = await client.get(path)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), problem
    assert problem["parameter"]
    assert named in problem["detail"]
    check(problem, reference("Problem"), COMPONENTS)


@pytest.mark.parametrize(
    "path", ["/traces/xyz", "/traces/" + "f" * 32, "/observations/1", "/sessions/none", "/sessions/%00"]
)
async def test_an_unknown_record_is_a_clear_404(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:turntrace:problem:not-found")


async def test_a_database_without_tables_is_a_clear_503(blank_database: Database) -> None:
    async with client_of(blank_database) as client:
        assert (await client.get("/health")).status_code == 200
        answer = await client.get("/traces", headers={"Authorization": f"Bearer ttk_aa_{'b' * 64}"})
    assert answer.status_code == 503
    assert "turntrace db upgrade" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/erasures/{}"),
        ("DELETE", "/traces/{}"),
        ("DELETE", "/score-configs/{}"),
        ("DELETE", "/budgets/{}"),
        ("GET", "/evaluators/{}"),
        ("PATCH", "/evaluators/{}"),
        ("GET", "/evaluators/{}/runs"),
        ("POST", "/evaluators/{}/retry"),
        ("GET", "/annotation-queues/{}"),
        ("GET", "/annotation-queues/{}/items"),
    ],
)
async def test_an_id_with_a_character_that_no_id_has_is_not_found(database: Database, method: str, path: str) -> None:
    async with client_of(database, **make_key(database, "admin")) as client:
        for text in ("%00", "a%00b"):
            answer = await client.request(method, path.format(text), json={})
            assert answer.status_code == 404, answer.text
