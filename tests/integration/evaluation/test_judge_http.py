"""Judges over HTTP: forms of asking, faults as short words, addresses that may not be asked."""

from contextlib import closing

import pytest

from tests.acceptance.servers import wait_until
from tests.integration.evaluation.judge_server import GOOD, judge_server
from turntrace.errors import EvaluationFailed, InvalidInput
from turntrace.evaluation import judge
from turntrace.evaluation.judge import JudgeSpec, read_verdict
from turntrace.evaluation.shape import ScoreShape
from turntrace.integrations.hostcode import HostCode
from turntrace.integrations.judge import JudgeClient
from turntrace.integrations.judge_address import JudgeAddresses
from turntrace.integrations.judge_connection import Connections

SHAPE = ScoreShape(name="helpful", data_type="numeric", minimum=0, maximum=1)


def client(*allowed: str, keeps_open: bool = False) -> JudgeClient:
    return JudgeClient(JudgeAddresses(allowed or ("127.0.0.1",)), HostCode((), None).load, keeps_open=keeps_open)


def spec(url: str, **fields: object) -> JudgeSpec:
    return JudgeSpec(**{"provider": "openai", "base_url": url, "model": "small", "timeout_seconds": 5.0, **fields})  # type: ignore[arg-type]


def test_a_judge_is_asked_for_its_reason_before_the_score() -> None:
    with judge_server() as server:
        answer = client()(spec(server.url), "sk-1", "Is it good?", SHAPE)
    assert read_verdict(answer.text, SHAPE).value == 0.75
    (request,) = server.requests
    schema = request["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reason", "score"]
    assert schema["properties"]["score"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert server.headers[0]["authorization"] == "Bearer sk-1"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 10)


def test_a_model_without_structured_output_is_asked_in_words_and_remembered() -> None:
    with judge_server(behaviour="no_schema") as server:
        asks = client()
        for _ in range(2):
            assert read_verdict(asks(spec(server.url), None, "?", SHAPE).text, SHAPE).value == 0.75
        kinds = [request.get("response_format", {}).get("type") for request in server.requests]
    assert kinds == ["json_schema", "json_object", None, None]


@pytest.mark.parametrize(
    ("behaviour", "reason", "is_final"),
    [("429", "http_429", False), ("500", "http_500", False), ("401", "http_401", True), ("307", "http_307", False),
     ("redirect", "http_307", False)],
)  # fmt: skip
def test_a_status_is_an_error_and_never_a_score(behaviour: str, reason: str, is_final: bool) -> None:
    with judge_server(behaviour=behaviour, retry_after="7") as server, pytest.raises(EvaluationFailed) as failure:
        client()(spec(server.url), None, "?", SHAPE)
    assert (failure.value.reason, failure.value.is_final) == (reason, is_final)
    if behaviour == "429":
        assert failure.value.retry_after_seconds == 7
    assert len(server.requests) == 1


def test_a_judge_that_takes_too_long_or_drips_is_given_up() -> None:
    for fields in ({"seconds": 3.0}, {"behaviour": "drip"}):
        with judge_server(**fields) as server, pytest.raises(EvaluationFailed) as failure:
            client()(spec(server.url, timeout_seconds=0.5), None, "?", SHAPE)
        assert failure.value.reason == "timeout"


@pytest.mark.parametrize(
    ("keeps_open", "hangs_up", "connections"), [(True, False, 1), (True, True, 3), (False, False, 3)]
)
def test_a_connection_is_used_again_until_either_end_closes_it(
    keeps_open: bool, hangs_up: bool, connections: int
) -> None:
    with judge_server(keeps_open=True, hangs_up=hangs_up) as server, closing(client(keeps_open=keeps_open)) as asks:
        for number in range(3):
            assert read_verdict(asks(spec(server.url), f"sk-{number}", "?", SHAPE).text, SHAPE).value == 0.75
            # What hangs up does so after its answer: the next question must not run into it.
            wait_until(lambda: not hangs_up or _is_closed(asks), seconds=10, what="it has hung up")
        assert server.connections == connections
        assert [headers["authorization"] for headers in server.headers] == [f"Bearer sk-{n}" for n in range(3)]


def _is_closed(asks: JudgeClient) -> bool:
    return all(connection.was_closed() for connection, _ in asks._connections._idle)


def test_an_error_closes_no_connection_and_one_that_timed_out_is_not_used_again() -> None:
    with judge_server(keeps_open=True, behaviour="500") as server, closing(client(keeps_open=True)) as asks:
        with pytest.raises(EvaluationFailed, match="http_500"):
            asks(spec(server.url), None, "?", SHAPE)
        server.behaviour, server.seconds = "good", 1.0
        with pytest.raises(EvaluationFailed, match="timeout"):
            asks(spec(server.url, timeout_seconds=0.2), None, "?", SHAPE)
        server.seconds = 0.0
        assert read_verdict(asks(spec(server.url), None, "?", SHAPE).text, SHAPE).value == 0.75
        assert server.connections == 2


def test_a_name_that_leads_elsewhere_now_is_not_asked_over_a_connection_of_before() -> None:
    found = Connections()
    with judge_server(keeps_open=True) as one, judge_server(keeps_open=True) as other, closing(found):
        ports = [int(server.url.split(":")[2].split("/")[0]) for server in (one, other)]
        for port in ports:
            found.post(f"http://judge.test:{port}/v1", "/v1", b"{}", {}, address=("127.0.0.1", port), seconds=5.0)
            found.post("http://judge.test/v1", "/v1", b"{}", {}, address=("127.0.0.1", port), seconds=5.0)
        assert (len(one.requests), len(other.requests)) == (2, 2)


def test_rubbish_is_no_verdict() -> None:
    with judge_server(behaviour="rubbish") as server:
        answer = client()(spec(server.url), None, "?", SHAPE)
    with pytest.raises(EvaluationFailed, match="not_json"):
        read_verdict(answer.text, SHAPE)
    assert read_verdict(f"Here you are: {GOOD} Bye.", SHAPE).value == 0.75


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "10.0.0.8", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"]
)
def test_private_addresses_are_not_asked_unless_they_are_named(host: str) -> None:
    addresses = JudgeAddresses(())
    with pytest.raises(InvalidInput) as refusal:
        addresses.check(f"http://{host}:8080/v1")
    assert refusal.value.field == "$.judge.base_url"
    with pytest.raises(EvaluationFailed, match="address_not_allowed"):
        addresses.address(f"http://{host}:8080/v1")
    named = host.strip("[]").removeprefix("::ffff:")
    JudgeAddresses((named,)).check(f"http://{host}:8080/v1")


@pytest.mark.parametrize(
    "host", ["[64:ff9b::7f00:1]", "[64:ff9b::a00:8]", "[2002:7f00:1::]", "[fec0::1]", "[::7f00:1]"]
)
def test_no_form_of_address_hides_a_private_one(host: str) -> None:
    with pytest.raises(InvalidInput):
        JudgeAddresses(()).check(f"http://{host}:8080/v1")
    with pytest.raises(EvaluationFailed, match="address_not_allowed"):
        JudgeAddresses(()).address(f"http://{host}:8080/v1")


def test_anthropic_is_asked_in_its_own_form() -> None:
    found = judge.request(spec("https://api.anthropic.com/v1", provider="anthropic"), "?", SHAPE, "json_schema")
    assert (found.path, found.body["tool_choice"]["name"]) == ("/messages", "give_verdict")
    assert judge.credentials(spec("x", provider="anthropic"), "sk") == {"x-api-key": "sk"}
    said = {"content": [{"type": "tool_use", "input": {"reason": "r", "score": 1}}], "usage": {"input_tokens": 3}}
    answer = judge.read_answer(spec("x", provider="anthropic"), said)
    assert read_verdict(answer.text, SHAPE).value == 1.0
