"""What evaluators see of turns, and how prompts are made of it."""

from dataclasses import replace
from typing import Any

import pytest

from turntrace.errors import EvaluationFailed, InvalidInput
from turntrace.evaluation import document
from turntrace.evaluation.definition import read_definition
from turntrace.evaluation.judge import read_verdict
from turntrace.evaluation.shape import ScoreShape
from turntrace.evaluation.template import compile_template
from turntrace.evaluation.templates import TEMPLATES
from turntrace.evaluation.trend import Cell, Reading, binary, change_point, reading_of, steps
from turntrace.records.observation import Observation
from turntrace.records.score import Score
from turntrace.records.trace import Trace


def step(number: int, kind: str, **fields: Any) -> Observation:
    span = f"{number:016x}"
    named = {"id": "t" * 32 + span, "turn_id": "t" * 32, "trace_id": "w" * 32, "span_id": span}
    return Observation(**named, type=kind, started_at_us=number, **fields)


TRACE = Trace(
    id="t" * 32,
    trace_id="w" * 32,
    span_id="0" * 16,
    input={"question": "How do I descale it?"},
    output="With vinegar.",
    duration_us=1_500_000,
    metadata={"expected": "Vinegar, boiled."},
    observations=(
        step(1, "retrieval", documents=({"id": "a", "content": "Bleach."}, {"id": "b", "content": "Vinegar."})),
        step(2, "reranker", documents=({"id": "b", "content": "Vinegar."},)),
        step(3, "tool", output={"text": "Boil it."}),
        step(
            4,
            "generation",
            input=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How do I descale it?"}],
            output=[{"role": "assistant", "content": "With vinegar."}],
        ),
    ),
)


def test_a_turn_shows_question_answer_and_what_the_answer_rests_on() -> None:
    seen = document.of_trace(TRACE)
    assert (seen["question"], seen["answer"]) == ("How do I descale it?", "With vinegar.")
    assert seen["context"] == ["Vinegar.", "Boil it."]
    assert seen["duration_ms"] == 1500.0
    assert seen["expected"] == "Vinegar, boiled."
    assert len(seen["trace"]["observations"]) == 4


def test_a_correction_is_what_is_expected() -> None:
    said = [
        Score(id=str(at), name="fix", value=text, data_type="correction", source="human", created_at_us=at)
        for at, text in ((1, "first"), (2, "second"))
    ]
    assert document.of_trace(replace(TRACE, scores=tuple(said)))["expected"] == "second"


def test_a_step_shows_what_came_before_it() -> None:
    seen = document.of_observation(TRACE.observations[3], TRACE)
    assert (seen["question"], seen["answer"]) == ("How do I descale it?", "With vinegar.")
    assert seen["context"] == ["Vinegar.", "Boil it."]
    assert document.of_observation(TRACE.observations[1], TRACE)["context"] == ["Vinegar."]


def test_a_session_is_a_transcript() -> None:
    seen = document.of_session("s", None, [TRACE, replace(TRACE, output="Or lemon.")])
    turn = "User: How do I descale it?\nAssistant: "
    assert seen["transcript"] == f"{turn}With vinegar.\n{turn}Or lemon."


def test_variables_are_paths_and_what_they_bring_is_never_a_template() -> None:
    found = compile_template("{{ q }}|{{all}}", {"q": "$.question", "all": "$.trace.observations[*].type"})
    text = found.render({"question": "{{all}}", "trace": {"observations": [{"type": "tool"}, {"type": "span"}]}})
    assert text.startswith("{{all}}|")
    assert '"tool"' in text
    with pytest.raises(InvalidInput, match="not mapped"):
        compile_template("{{other}}", {"q": "$.question"})


def test_every_template_is_a_whole_definition_with_a_judge() -> None:
    judge = {"base_url": "https://judge.example/v1", "model": "m"}
    for name in TEMPLATES:
        definition, _ = read_definition({"template": name, "name": name, "judge": judge})
        assert definition.prompt is not None
        assert definition.prompt.render(document.of_trace(TRACE))


@pytest.mark.parametrize(
    ("text", "shape", "value"),
    [
        ('{"reason": "r", "score": true}', {"data_type": "boolean"}, True),
        ('{"reasoning": "r", "score": "Good"}', {"data_type": "categorical", "categories": ("good", "bad")}, "good"),
        ('```json\n{"reason": "r", "score": 3}\n```', {"data_type": "numeric", "minimum": 1, "maximum": 5}, 3.0),
        ('{"score": "0.5"}', {"data_type": "numeric"}, 0.5),
    ],
)
def test_verdicts_are_read(text: str, shape: dict[str, Any], value: Any) -> None:
    assert read_verdict(text, ScoreShape(name="x", **shape)).value == value


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[1, 2]", "not_json"),
        ('{"reason": "r"}', "no_score"),
        ('{"score": 1}', "wrong_type"),
        ('{"score": null}', "wrong_type"),
        ('{"score": NaN}', "wrong_type"),
        ('Either {"score": true} or {"score": false}.', "several_scores"),
        ('[{"score": true}, {"score": false}]', "several_scores"),
        ('<think>{"score": true}</think> I cannot say.', "not_json"),
    ],
)
def test_what_is_no_verdict_is_an_error(text: str, word: str) -> None:
    with pytest.raises(EvaluationFailed) as failure:
        read_verdict(text, ScoreShape(name="x", data_type="boolean"))
    assert failure.value.reason == word


@pytest.mark.parametrize(
    "text",
    [
        '<think>First I thought {"score": 0.2}, but it is right.</think>\n{"reason": "right", "score": 0.9}',
        '{"reason": "right", "why": "it closes </think> itself", "score": 0.9}',
        'Of {"question": "how?"} I say {"reason": "right", "score": 0.9}',
        '```json\n{"question": "how?"}\n```\n{"reason": "right", "score": 0.9}',
        'So: {"reason": "right", "score": 0.9, "parts": {"score": 0.1}}. Again: {"score": 0.9}',
    ],
)
def test_the_verdict_is_told_from_other_objects(text: str) -> None:
    found = read_verdict(text, ScoreShape(name="x", data_type="numeric", minimum=0, maximum=1))
    assert (found.value, found.reason) == (0.9, "right")


def share(good: int, n: int) -> Cell:
    return Cell(n=n, total=good, squares=good)


def test_a_release_that_made_it_worse_is_named() -> None:
    reading = reading_of("boolean", ScoreShape(name="h", data_type="boolean", better="low"))
    cells = [("1.0", share(18, 1000)), ("1.1", share(20, 1000)), ("1.2", share(60, 1000))]
    (found,) = steps(cells, reading)
    assert (found.before, found.after, found.is_worse) == ("1.1", "1.2", True)
    assert found.was.high < found.now.low


def test_the_day_it_changed_is_found_among_days_that_only_vary() -> None:
    reading = Reading(is_share=True, is_low_bad=False)
    flat = [(str(day), share(10 + day % 3, 200)) for day in range(14)]
    assert change_point(flat, reading) is None
    broken = [*flat[:9], *[(str(day), share(30, 200)) for day in range(9, 14)]]
    found = change_point(broken, reading)
    assert found is not None
    assert (found.after, found.is_worse) == ("9", True)


def test_verdicts_are_compared_as_good_or_not() -> None:
    low = Reading(is_share=False, is_low_bad=True)
    high = Reading(is_share=True, is_low_bad=False)
    assert [binary(value, low, 0.5) for value in (0.4, 0.6)] == [False, True]
    assert [binary(value, high, 0.5) for value in (True, False)] == [False, True]
    assert binary("good", Reading(is_share=True, is_low_bad=True, good=("good",)), 0.5)
