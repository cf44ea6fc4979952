"""How much is kept of a turn's texts: by setting, by rule, by window, by the turn's own word."""

from typing import Any

import pytest

from tests.unit.pipeline.turns import START_US, own, turn
from turntrace.errors import SettingsError
from turntrace.pipeline import Modes, Pipeline
from turntrace.records.trace import Trace
from turntrace.records.window import Window
from turntrace.settings import Settings

RULES = ("environment:staging=redacted", "route:/clinic/*=metadata", "tag:role:doctor=metadata", "feature:open=full")


class Stars:
    """Replaces every text by a star."""

    def redact(self, traces: Any) -> list[Trace]:
        from dataclasses import replace

        return [replace(trace, input=trace.input and "*", output=trace.output and "*") for trace in traces]


def _kept(settings: Settings, windows: tuple[Window, ...] = (), **header: Any) -> Trace:
    modes = Modes(settings, lambda text: (f"~{text}",))
    modes.windows = windows
    pipeline = Pipeline(settings, redactor=Stars(), modes=modes)
    step = own(1, type="generation", model="gpt-4o-mini", usage={"input_tokens": 10, "output_tokens": 2}, input="a b c")
    return pipeline.work([turn(step, **{"input": "a b c", **header})])[0].trace


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, "*"),
        ({"route": "/clinic/7"}, None),
        ({"route": "/shop"}, "*"),
        ({"tags": ("role:doctor",)}, None),
        ({"tags": ("role:nurse",)}, "*"),
        ({"environment": "staging", "route": "/clinic/7"}, "*"),
        ({"feature": "open"}, "a b c"),
        ({"content": "metadata"}, None),
        ({"content": "metadata", "feature": "open"}, None),
        ({"content": "redacted", "feature": "open"}, "*"),
        ({"content": "full"}, "*"),
    ],
)
def test_the_first_rule_that_fits_counts_and_a_turn_may_ask_for_less(header: dict[str, Any], expected: Any) -> None:
    settings = Settings(content_rules=RULES, allow_unredacted=True)
    trace = _kept(settings, **header)
    assert trace.input == expected
    assert ("unredacted" in trace.flags) == (expected == "a b c")
    # Tokens, cost and timings are there in every mode.
    assert trace.usage is not None
    assert trace.usage.input_tokens == 10
    assert trace.cost_total_nano
    assert trace.observations[0].model == "gpt-4o-mini"
    if expected is None:
        assert trace.observations[0].input is None
        assert trace.input_preview is None


def _window(kind: str, value: str, mode: str = "redacted", minutes: int = 10) -> Window:
    end = START_US + minutes * 60_000_000
    return Window(id="w", kind=kind, value=value, mode=mode, from_us=START_US - 1, until_us=end)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (_window("user", "~ann"), "*"),
        (_window("user", "~bob"), None),
        (_window("session", "~talk"), "*"),
        (_window("route", "/chat*"), "*"),
        (_window("route", "/shop*"), None),
        (_window("user", "~ann", "full"), "a b c"),
        (_window("user", "~ann", "full", minutes=-1), None),
    ],
)
def test_a_window_keeps_more_while_it_is_open(window: Window, expected: Any) -> None:
    settings = Settings(content="metadata", allow_unredacted=True, sample_rate=0.0)
    trace = _kept(settings, (window,), user_id="ann", session_id="talk", route="/chat/1")
    assert trace.input == expected
    assert (trace.keep_reason == "window") == bool(expected)


def test_unredacted_text_needs_a_setting_of_its_own() -> None:
    window = _window("user", "~ann", "full")
    assert _kept(Settings(), (window,), user_id="ann").input == "*"
    with pytest.raises(SettingsError, match="allow_unredacted"):
        Settings(content_rules=("environment:dev=full",))
    with pytest.raises(SettingsError, match="content_rules"):
        Settings(content_rules=("host:dev=metadata",))


def test_without_a_redactor_no_window_opens_anything() -> None:
    settings = Settings(content="metadata")
    modes = Modes(settings, lambda text: (text,))
    modes.windows = (_window("user", "ann"),)
    (found,) = Pipeline(settings, modes=modes).work([turn(own(1, input="a b c"), input="a b c", user_id="ann")])
    assert found.trace.input is None
    assert found.trace.observations[0].input is None


def test_a_turn_says_how_much_is_kept_of_it() -> None:
    from turntrace.tracing.field import check_turn

    assert check_turn({"content": "metadata"}) == {"content": "metadata"}
    with pytest.raises(ValueError, match="metadata, redacted"):
        check_turn({"content": "full"})


class Namer(Stars):
    """Calls every step `someone`."""

    def redact(self, traces: Any) -> list[Trace]:
        from dataclasses import replace

        return [
            replace(trace, route="/x", observations=tuple(replace(step, name="someone") for step in trace.observations))
            for trace in super().redact(traces)
        ]


@pytest.mark.parametrize("chosen", [{}, {"sample_rate": 0.0}, {"content_rules": ("feature:open=full",)}])
def test_sums_name_steps_as_redaction_left_them_whatever_is_kept(chosen: dict[str, Any]) -> None:
    settings = Settings(allow_unredacted=True, **chosen)
    pipeline = Pipeline(settings, redactor=Namer(), modes=Modes(settings, lambda text: (text,)))
    step = own(1, type="tool", input="a b c")
    (found,) = pipeline.work([turn(step, input="a b c", feature="open")])
    assert {fact.step for fact in found.facts} == {"", "tool:someone"}
    assert {fact.route for fact in found.facts} == {"/x"}
    if "content_rules" in chosen:
        assert found.trace is not None
        assert (found.trace.input, found.trace.observations[0].name) == ("a b c", "someone")
