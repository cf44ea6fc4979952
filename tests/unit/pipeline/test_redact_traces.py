"""Whole traces through the redactor, with an analyser that knows one address."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from turntrace.pipeline.redact import Entity, Failure, TraceRedactor, number_tags
from turntrace.records.observation import ErrorInfo, Observation, PromptLink
from turntrace.records.trace import Trace

MAIL = "anna@example.com"


class KnowsAnna:
    """Finds one address, refuses one text, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def analyze(self, texts: Sequence[str]) -> list[list[Entity] | Failure]:
        self.asked += texts
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> list[Entity] | Failure:
        if "refuse me" in text:
            return Failure("time limit")
        start = text.find(MAIL)
        return [] if start < 0 else [Entity(start, start + len(MAIL), "EMAIL_ADDRESS")]


def trace(**fields: Any) -> Trace:
    return Trace(id="1" * 32, trace_id="2" * 32, span_id="3" * 16, **fields)


def observation(**fields: Any) -> Observation:
    return Observation(id="1" * 48, turn_id="1" * 32, trace_id="2" * 32, span_id="3" * 16, **fields)


def redactor(analyzer: Any) -> TraceRedactor:
    return TraceRedactor(analyzer, key=b"k" * 32)


TEXT = f"ask {MAIL} now"
EVERYWHERE = trace(
    name=TEXT,
    route=f"/users/{MAIL}",
    tags=(TEXT,),
    metadata={"a": {"b": [TEXT]}, TEXT: 1},
    feature_flags={"flag": TEXT},
    input={"messages": [{"role": "user", "content": TEXT}]},
    output=TEXT,
    received=f"data: ask {MAIL[:6]}\n\ndata: {MAIL[6:]}\n\n",
    input_preview=TEXT,
    output_preview=TEXT,
    error=ErrorInfo(type="ValueError", message=TEXT, stack=f"Traceback\n  {TEXT}"),
    observations=(
        observation(
            name=TEXT,
            status_message=TEXT,
            error=ErrorInfo(type=TEXT, message=TEXT, stack=TEXT),
            tags=(TEXT,),
            prompt=PromptLink(name="p", version=1, variables={"who": TEXT}),
            parameters={"stop": [TEXT]},
            input=TEXT,
            output=[TEXT],
            tool_calls=({"name": "mail", "arguments": f'{{"to": "{MAIL}"}}'},),
            tool_definitions=({"description": TEXT},),
            query=TEXT,
            retrieval={"data_source": TEXT},
            documents=({"content": TEXT, "metadata": {"author": TEXT}},),
            input_documents=({"content": TEXT},),
            metadata={"x": TEXT},
        ),
    ),
)


def test_an_address_is_found_wherever_a_text_can_stand() -> None:
    (redacted,) = redactor(KnowsAnna()).redact([EVERYWHERE])
    assert MAIL not in repr(redacted)
    assert "example" not in repr(redacted)
    assert redacted.redaction_failed == 0
    shown = number_tags([redacted.input, redacted.output, redacted.observations[0].query])
    assert shown == [{"messages": [{"role": "user", "content": "ask <EMAIL_1> now"}]}, *["ask <EMAIL_1> now"] * 2]


def test_what_is_no_text_of_people_stays() -> None:
    (redacted,) = redactor(KnowsAnna()).redact([EVERYWHERE])
    assert redacted.error is not None
    assert redacted.error.type == "ValueError"
    call = redacted.observations[0]
    assert call.prompt is not None
    assert (redacted.id, call.id, call.prompt.name, call.tool_calls[0]["name"]) == ("1" * 32, "1" * 48, "p", "mail")


def test_a_clean_trace_is_given_back_unchanged() -> None:
    clean = trace(input={"messages": [{"role": "user", "content": "hello"}]}, observations=(observation(output="hi!"),))
    assert redactor(KnowsAnna()).redact([clean])[0] is clean


def test_a_message_seen_before_is_not_analysed_again() -> None:
    analyzer = KnowsAnna()
    one = redactor(analyzer)
    first = one.redact([trace(input=[TEXT, "hello you"])])
    second = one.redact([trace(input=[TEXT, "hello you", "something new"])])
    assert analyzer.asked == [TEXT, "hello you", "something new"]
    assert second[0].input[0] == first[0].input[0]


def test_a_text_that_could_not_be_analysed_is_withheld_and_counted() -> None:
    analyzer = KnowsAnna()
    one = redactor(analyzer)
    for _ in range(2):
        (redacted,) = one.redact([trace(input={"a": "refuse me", "b": "fine text"}, redaction_failed=1)])
        assert redacted.input == {"a": "[redaction failed: time limit]", "b": "fine text"}
        assert redacted.redaction_failed == 2
    assert analyzer.asked.count("refuse me") == 2  # a passing failure is tried again


class Raises:
    def analyze(self, texts: Sequence[str]) -> list[list[Entity]]:
        raise RuntimeError(f"cannot read {texts[0]}")


class Forgets:
    def analyze(self, texts: Sequence[str]) -> list[list[Entity]]:
        return []


class Lies:
    def analyze(self, texts: Sequence[str]) -> list[list[Entity]]:
        return [[Entity(0, 10_000, "EMAIL_ADDRESS")] for _ in texts]


class Nonsense:
    def analyze(self, texts: Sequence[str]) -> Any:
        return [None for _ in texts]


@pytest.mark.parametrize("analyzer", [Raises(), Forgets(), Lies(), Nonsense()])
def test_a_broken_analyser_withholds_everything(analyzer: Any) -> None:
    (redacted,) = redactor(analyzer).redact([EVERYWHERE])
    assert "ask" not in repr(redacted)
    assert MAIL not in repr(redacted)
    assert redacted.redaction_failed > 20


def test_one_text_that_breaks_the_analyser_withholds_only_itself() -> None:
    class Brittle(KnowsAnna):
        def _find(self, text: str) -> list[Entity] | Failure:
            if "boom" in text:
                raise ValueError(text)
            return super()._find(text)

    traces = [trace(input="boom today"), *(trace(input=f"text number {index}") for index in range(20))]
    redacted = redactor(Brittle()).redact(traces)
    assert redacted[0].input == "[redaction failed: error]"
    assert [item.redaction_failed for item in redacted] == [1] + [0] * 20


def test_a_field_nested_too_deeply_is_withheld_in_its_shape() -> None:
    deep: Any = TEXT
    for _ in range(100):
        deep = {"a": deep}
    (redacted,) = redactor(KnowsAnna()).redact([trace(input=deep, metadata=deep, tags=("fine tag",))])
    sign = "[redaction failed: nested too deeply]"
    assert (redacted.input, redacted.metadata, redacted.tags) == ({"withheld": sign}, {"withheld": sign}, ("fine tag",))
    assert redacted.redaction_failed == 2


def test_redacting_twice_changes_nothing_more() -> None:
    one = redactor(KnowsAnna())
    (once,) = one.redact([replace(EVERYWHERE, metadata={"password": "x1y2z3", "email": MAIL})])
    assert one.redact([once])[0] == once


def test_redaction_off_leaves_traces_alone() -> None:
    assert TraceRedactor(None).redact([EVERYWHERE])[0] is EVERYWHERE


def test_known_fields_need_no_analyser_to_be_redacted() -> None:
    (redacted,) = redactor(KnowsAnna()).redact(
        [trace(input={"password": "abc", "phone": "n/a", "pin": 1234, "cvv": 0})]
    )
    assert redacted.input["phone"] == "n/a"
    assert "abc" not in repr(redacted.input)
    assert "1234" not in repr(redacted.input)
