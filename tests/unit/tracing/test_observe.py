"""`@observe` and the context managers."""

import asyncio
import gc
import inspect
import traceback
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import trace

from turntrace.tracing.observation import generation, observation
from turntrace.tracing.observe import observe
from turntrace.tracing.recorder import set_default
from turntrace.tracing.turn import Turn, suspended

from .conftest import ListRecorder


def test_arguments_and_result_are_recorded_by_name(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    def search(query: str, *more: int, limit: int = 3, **options: Any) -> list[str]:
        """Finds."""
        return [query]

    assert search("q", 1, 2, limit=4, deep=True) == ["q"]
    assert (search.__name__, search.__doc__) == ("search", "Finds.")
    turn.finish()
    own = recorder.spans()["search"]["own"]
    assert own["input"] == {"query": "q", "more": [1, 2], "limit": 4, "deep": True}
    assert own["output"] == ["q"]


def test_arguments_of_the_decorator(recorder: ListRecorder, turn: Turn) -> None:
    @observe(type="retrieval", name="kb-search", capture_input=False, capture_output=False)
    def search(query: str) -> str:
        return query

    search("q")
    turn.finish()
    assert recorder.spans()["kb-search"]["own"] == {"type": "retrieval"}


def test_an_unknown_type_is_refused_when_decorating() -> None:
    with pytest.raises(ValueError, match="type: expected one of generation, embedding, retrieval"):
        observe(type="llm")
    with pytest.raises(TypeError, match="expected a function"):
        observe(3)  # type: ignore[call-overload]


class Bot:
    @observe
    def method(self, a: int) -> int:
        return a

    @observe
    @classmethod
    def of_class(cls, a: int) -> str:
        return cls.__name__

    @classmethod
    @observe
    def under_class(cls, a: int) -> str:
        return cls.__name__

    @observe
    @staticmethod
    def static(a: int) -> int:
        return a

    @staticmethod
    @observe
    def under_static(a: int) -> int:
        return a


def test_methods_of_every_kind_leave_out_self_and_cls(recorder: ListRecorder, turn: Turn) -> None:
    assert Bot().method(1) == 1
    assert Bot.of_class(2) == "Bot"
    assert Bot.under_class(3) == "Bot"
    assert Bot.static(4) == 4
    assert Bot().under_static(5) == 5
    turn.finish()
    inputs = [span["own"]["input"] for span in recorder.last("END")["spans"]]
    assert inputs == [{"a": number} for number in (1, 2, 3, 4, 5)]


async def test_async_functions_stay_async_and_nest(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n

    @observe
    async def outer() -> list[int]:
        return list(await asyncio.gather(inner(1), inner(2), asyncio.create_task(inner(3))))

    assert inspect.iscoroutinefunction(outer)
    assert await outer() == [1, 2, 3]
    turn.finish()
    spans = recorder.last("END")["spans"]
    outer_id = next(span["span_id"] for span in spans if span["name"] == "outer")
    assert [span["parent_span_id"] for span in spans if span["name"] == "inner"] == [outer_id] * 3


async def test_objects_with_an_async_call_are_observed_until_it_is_over(recorder: ListRecorder, turn: Turn) -> None:
    class Tool:
        async def __call__(self, question: str = "why") -> str:
            with observation(None, "child"):
                await asyncio.sleep(0)
            return question.upper()

    class Stream:
        async def __call__(self) -> AsyncIterator[str]:
            yield "a"
            yield "b"

    assert await observe(name="tool")(Tool())(question="how") == "HOW"
    assert [piece async for piece in observe(name="stream")(Stream())()] == ["a", "b"]
    turn.finish()
    spans = recorder.spans()
    assert (spans["tool"]["own"]["input"], spans["tool"]["own"]["output"]) == ({"question": "how"}, "HOW")
    assert spans["child"]["parent_span_id"] == spans["tool"]["span_id"]
    assert spans["stream"]["own"]["output"] == "ab"


def test_the_same_exception_comes_out_and_its_stack_has_no_locals(recorder: ListRecorder, turn: Turn) -> None:
    boom = RuntimeError("failed for anna@example.org")

    @observe
    def fail(secret: str) -> None:
        raise boom

    with pytest.raises(RuntimeError) as caught:
        fail("s3cret")
    assert caught.value is boom
    names = [frame.name for frame in traceback.extract_tb(boom.__traceback__)]
    assert names == [inspect.currentframe().f_code.co_name, "observed_call", "fail"]  # type: ignore[union-attr]
    turn.finish()
    span = recorder.spans()["fail"]
    assert span["status"] == "error"
    assert (span["error"]["type"], span["error"]["message"]) == ("RuntimeError", "failed for anna@example.org")
    assert "s3cret" not in span["error"]["stack"]
    assert "observed_call" not in span["error"]["stack"]
    assert ".fail" in span["error"]["stack"]


def test_causes_of_an_exception_are_told(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer"):
        fail()
    turn.finish()
    assert "caused by KeyError: 'inner'" in recorder.spans()["fail"]["error"]["stack"]


async def test_a_cancelled_task_is_a_warning_and_no_error(recorder: ListRecorder, turn: Turn) -> None:
    started = asyncio.Event()

    @observe
    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    turn.finish()
    span = recorder.spans()["wait"]
    assert span["status_message"] == "cancelled"
    assert span["own"]["level"] == "warning"
    assert "status" not in span


# Generators


@observe(type="generation")
def words(count: int, *, fails_at: int = -1) -> Iterator[str]:
    for index in range(count):
        if index == fails_at:
            raise RuntimeError("broken")
        with observation(None, f"child{index}"):
            pass
        yield f"w{index} "


@observe(type="generation")
async def async_words(count: int, *, fails_at: int = -1) -> AsyncIterator[str]:
    for index in range(count):
        if index == fails_at:
            raise RuntimeError("broken")
        with observation(None, f"child{index}"):
            await asyncio.sleep(0)
        yield f"w{index} "


def _only(recorder: ListRecorder, turn: Turn, name: str) -> dict[str, Any]:
    turn.finish()
    found = [span for span in recorder.last("END")["spans"] if span["name"] == name]
    assert len(found) == 1
    assert len(recorder.frames) == 1
    assert "duration_us" in found[0]
    return found[0]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_generator_that_is_closed_early_is_one_finished_observation(
    recorder: ListRecorder, turn: Turn, taken: int
) -> None:
    steps = words(3)
    for _ in range(taken):
        next(iter(steps))
    steps.close()  # type: ignore[attr-defined]
    steps.close()  # type: ignore[attr-defined]
    span = _only(recorder, turn, "words")
    assert span["own"].get("output") == ("".join(f"w{index} " for index in range(taken)) or None)
    assert "error" not in span
    assert ("completion_started_us" in span["own"]) == bool(taken)


def test_an_exhausted_generator_has_its_whole_output_and_its_children(recorder: ListRecorder, turn: Turn) -> None:
    assert list(words(3)) == ["w0 ", "w1 ", "w2 "]
    span = _only(recorder, turn, "words")
    assert span["own"]["output"] == "w0 w1 w2 "
    children = [item for item in recorder.last("END")["spans"] if item["name"].startswith("child")]
    assert [child["parent_span_id"] for child in children] == [span["span_id"]] * 3


@pytest.mark.parametrize("taken", [0, 1])
def test_a_generator_dropped_to_garbage_is_finished(recorder: ListRecorder, turn: Turn, taken: int) -> None:
    steps = words(3)
    for _ in range(taken):
        next(iter(steps))
    del steps
    gc.collect()
    _only(recorder, turn, "words")


def test_a_generator_that_fails_keeps_what_it_yielded(recorder: ListRecorder, turn: Turn) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        list(words(3, fails_at=2))
    span = _only(recorder, turn, "words")
    assert span["own"]["output"] == "w0 w1 "
    assert span["error"]["type"] == "RuntimeError"


@pytest.mark.parametrize("generator", [words, async_words])
def test_a_generator_called_with_wrong_arguments_leaves_no_observation_open(
    recorder: ListRecorder, turn: Turn, generator: Any
) -> None:
    with pytest.raises(TypeError, match="count"):
        generator()
    assert not turn.open


def test_nothing_is_current_between_two_steps(turn: Turn) -> None:
    before = trace.get_current_span()
    steps = iter(words(2))
    next(steps)
    assert trace.get_current_span() is before
    next(steps)
    assert trace.get_current_span() is before


def test_send_and_throw_reach_the_generator(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    def echo() -> Any:
        given = yield "ready"
        try:
            yield given
        except KeyError:
            yield "caught"

    steps = echo()
    assert (next(steps), steps.send("x"), steps.throw(KeyError("k"))) == ("ready", "x", "caught")
    assert list(steps) == []
    assert _only(recorder, turn, "echo")["own"]["output"] == "readyxcaught"


def test_yielded_values_that_are_no_text_become_a_list(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    def rows() -> Any:
        row = {"n": 1}
        yield row
        row["n"] = 2
        yield row

    list(rows())
    assert _only(recorder, turn, "rows")["own"]["output"] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_an_async_generator_that_is_closed_early_is_one_finished_observation(
    recorder: ListRecorder, turn: Turn, taken: int
) -> None:
    steps = async_words(3)
    for _ in range(taken):
        await anext(steps)
    # From another task, as servers do after a disconnect.
    await asyncio.create_task(steps.aclose())  # type: ignore[attr-defined]
    span = _only(recorder, turn, "async_words")
    assert span["own"].get("output") == ("".join(f"w{index} " for index in range(taken)) or None)


async def test_an_exhausted_async_generator(recorder: ListRecorder, turn: Turn) -> None:
    before = trace.get_current_span()
    async for _ in async_words(2):
        assert trace.get_current_span() is before
    span = _only(recorder, turn, "async_words")
    assert span["own"]["output"] == "w0 w1 "
    children = [item for item in recorder.last("END")["spans"] if item["name"].startswith("child")]
    assert [child["parent_span_id"] for child in children] == [span["span_id"]] * 2


async def test_an_async_generator_that_fails_or_is_dropped(recorder: ListRecorder, turn: Turn) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        async for _ in async_words(3, fails_at=1):
            pass
    never = async_words(3)
    del never
    gc.collect()
    turn.finish()
    spans = [span for span in recorder.last("END")["spans"] if span["name"] == "async_words"]
    assert [span.get("error", {}).get("type") for span in spans] == ["RuntimeError", None]
    assert all("duration_us" in span for span in spans)


def test_a_generators_partial_output_is_in_a_frame_written_meanwhile(recorder: ListRecorder, turn: Turn) -> None:
    steps = iter(words(3))
    next(steps)
    turn.checkpoint()
    assert recorder.spans("START")["words"]["own"]["output"] == "w0 "
    next(steps)
    turn.checkpoint()
    assert recorder.spans("DELTA")["words"]["own"]["output"] == "w0 w1 "


def test_output_of_a_generator_is_bounded() -> None:
    recorder = ListRecorder(max_field_bytes=1024)
    turn = Turn(recorder, is_explicit=True)

    @observe(recorder=recorder)
    def many() -> Iterator[str]:
        for _ in range(1000):
            yield "x" * 100

    list(many())
    turn.finish()
    output = recorder.frames[0][2]["spans"][0]["own"]["output"]
    assert len(output) < 2048
    assert "more pieces cut]" in output


# Context managers


def test_a_tool_is_in_the_spool_with_its_arguments_before_it_runs(recorder: ListRecorder, turn: Turn) -> None:
    @observe(type="tool")
    def refund(order: str) -> str:
        span = recorder.spans("START")["refund"]
        assert span["own"] == {"type": "tool", "tool_name": "refund", "input": {"order": "A-1"}}
        assert "duration_us" not in span
        return "done"

    with observation(recorder, "agent", type="agent"):
        assert refund("A-1") == "done"
        with observation(recorder, "lookup", type="tool", input={"id": 3}):
            assert recorder.spans("DELTA")["lookup"]["own"]["input"] == {"id": 3}


def test_a_generation_takes_everything_the_interface_names(recorder: ListRecorder, turn: Turn) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with generation(
        recorder, "answer", model="gpt-4o-mini", provider="openai", input=messages, parameters={"temperature": 0}
    ) as g:
        g.update(
            output="yes",
            usage={"input_tokens": 580, "output_tokens": 84, "cache_read_tokens": 512},
            finish_reason="stop",
            response_id="r1",
            prompt={"name": "support", "version": 3},
            cost={"total": Decimal("0.00012")},
            documents=[{"id": "d", "content": "c"}],
            metadata={"a": 1},
            tags=["t"],
        )
        g.update(metadata={"b": 2}, level="warning")
    turn.finish()
    assert recorder.spans()["answer"]["own"] == {
        "type": "generation",
        "model": "gpt-4o-mini",
        "provider": "openai",
        "input": messages,
        "parameters": {"temperature": 0},
        "output": "yes",
        "usage": {"input_tokens": 580, "output_tokens": 84, "cache_read_tokens": 512},
        "finish_reason": "stop",
        "response_id": "r1",
        "prompt": {"name": "support", "version": 3},
        "cost": {"total": "0.00012"},
        "documents": [{"id": "d", "content": "c"}],
        "metadata": {"a": 1, "b": 2},
        "tags": ["t"],
        "level": "warning",
    }


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"usage": {"prompt_tokens": 3}}, ValueError, "unknown key 'prompt_tokens'; expected input_tokens"),
        ({"usage": {"input_tokens": -1}}, ValueError, "from 0 on"),
        ({"usage": {"input_tokens": True}}, TypeError, "whole number"),
        ({"usage": 5}, TypeError, "expected a dict with keys of input_tokens"),
        ({"level": "fatal"}, ValueError, "expected one of debug, default, warning, error"),
        ({"type": "llm"}, ValueError, "expected one of generation"),
        ({"ouput": "x"}, TypeError, "unknown field 'ouput'; expected type, level, input, output"),
        ({"cost": "a lot"}, ValueError, "expected US dollars"),
        ({"documents": "x"}, TypeError, "documents: expected a list, got str"),
        ({"prompt": 4}, TypeError, "expected a prompt version"),
    ],
)
@pytest.mark.parametrize("is_silent", [False, True])
def test_wrong_fields_are_refused_recorded_or_not(
    recorder: ListRecorder, turn: Turn, fields: dict[str, Any], error: type[Exception], message: str, is_silent: bool
) -> None:
    recorder.guard.enabled = not is_silent
    with observation(recorder, "x") as span, pytest.raises(error, match=message):
        span.update(**fields)


def test_an_observation_without_a_turn_makes_one_of_its_own(recorder: ListRecorder) -> None:
    with observation(recorder, "root"), observation(recorder, "child"):
        pass
    payload = recorder.last("END")
    assert recorder.kinds() == ["END"]
    assert (payload["turn"]["source"], payload["turn"]["name"]) == ("manual", "root")
    spans = {span["name"]: span for span in payload["spans"]}
    assert spans["child"]["parent_span_id"] == spans["root"]["span_id"]
    assert spans["root"]["parent_span_id"] == payload["turn"]["span_id"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_free_decorator_uses_the_processs_recorder_outside_a_turn(recorder: ListRecorder) -> None:
    @observe
    def job(n: int) -> int:
        return n

    job(1)
    assert recorder.frames == []
    set_default(recorder)
    try:
        job(2)
        list(words(2))
    finally:
        set_default(None)
    assert [payload["turn"]["name"] for _, _, payload in recorder.frames] == ["job", "words"]
    assert {span["name"] for span in recorder.last("END")["spans"]} == {"words", "child0", "child1"}


def test_an_observation_can_be_ended_by_hand_once(recorder: ListRecorder, turn: Turn) -> None:
    span = observation(recorder, "manual")
    span.update(output="x")
    span.end()
    span.end()
    turn.finish()
    assert [item["name"] for item in recorder.last("END")["spans"]] == ["manual"]


def test_nothing_is_recorded_while_suspended_or_switched_off(recorder: ListRecorder, turn: Turn) -> None:
    @observe
    def step() -> int:
        return 1

    with suspended():
        assert step() == 1
        with observation(recorder, "x") as span:
            span.update(output="y")
            assert not span.is_recording()
            assert list(words(1)) == ["w0 "]
    recorder.guard.enabled = False
    assert step() == 1
    turn.finish()
    assert recorder.frames == []


def test_faults_of_ours_never_reach_the_host(recorder: ListRecorder, turn: Turn) -> None:
    recorder.guard.reraise = False

    def fail(*_: Any) -> Any:
        raise RuntimeError("ours")

    @observe(type="tool")
    def step(n: int) -> Any:
        return n

    recorder.write = fail  # type: ignore[method-assign]
    assert step(1) == 1
    turn.finish()
    assert {seam for seam, _ in recorder.guard.counts} == {"turn.checkpoint", "turn.finish"}


def test_an_attribute_named_after_a_session_tells_the_turn(recorder: ListRecorder, turn: Turn) -> None:
    trace.get_current_span().set_attribute("session.id", "s1")
    trace.get_current_span().set_attribute("user.id", "u1")
    trace.get_current_span().set_attribute("team", "blue")
    with observation(recorder, "x"):
        pass
    turn.finish()
    header = recorder.last("END")["turn"]
    assert (header["session_id"], header["user_id"], header["metadata"]) == ("s1", "u1", {"team": "blue"})
