"""Usage that nobody stated: counted by the real tokenizer, flagged, and only where there is something to count."""

import json
from typing import Any

import orjson
import pytest

from tests.unit.pipeline.turns import own, span, turn
from turntrace.integrations import tokens
from turntrace.pipeline import Pipeline
from turntrace.pipeline.estimate import TOKENS_A_MESSAGE, CountTokens, texts
from turntrace.records.fragment import FrameKind, RawSpan
from turntrace.records.observation import Observation
from turntrace.settings import Settings
from turntrace.tracing.encode import capture, withheld

QUESTION = [{"role": "user", "content": "How do I descale the kettle?"}]
ANSWER = "With vinegar, then rinse it twice."
BYTES = "iVBORw0KGgo" * 50
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.provider.name": "openai"}


def _call(count: CountTokens = tokens.count, **fields: Any) -> Observation:
    given = {"model": "gpt-4o-mini", "provider": "openai", "input": QUESTION, "output": ANSWER, **fields}
    return _of_span(own(1, given.pop("type", "generation"), **given), count)


def _of_span(made: RawSpan, count: CountTokens = tokens.count) -> Observation:
    (found,) = Pipeline(Settings(redaction="off"), count_tokens=count).work([turn(made)])
    return found.trace.observations[0]


def test_usage_that_no_provider_stated_is_counted_flagged_and_priced() -> None:
    found = _call()
    assert found.usage is not None
    assert found.usage.is_estimated
    # "How| do| I| desc|ale| the| kettle|?" by o200k_base, and what the template adds
    assert found.usage.input_tokens == 8 + TOKENS_A_MESSAGE
    assert found.usage.output_tokens == 8
    assert found.cost is not None
    assert found.cost.total_nano == 11 * 150 + 8 * 600


def test_a_picture_in_a_prompt_is_not_counted_as_words() -> None:
    picture = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BYTES}
    parts = [{"type": "text", "content": QUESTION[0]["content"]}, picture]
    said = {
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]}]),
    }
    usage = _of_span(span(1, attributes={**CHAT, **said})).usage
    assert usage is not None
    assert usage.input_tokens == 8 + TOKENS_A_MESSAGE


def test_usage_that_is_stated_stays_and_is_no_estimate() -> None:
    found = _call(usage={"input_tokens": 580, "output_tokens": 84})
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.is_estimated) == (580, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": {"input_tokens": -5, "output_tokens": 1}},  # kept raw and flagged, not guessed anew
        {"output": None},  # it failed before its answer
        {"model": None},
        {"type": "tool"},
        {"input": "x" * 5_000_000},
    ],
)
def test_what_cannot_be_told_is_not_estimated(fields: dict[str, Any]) -> None:
    assert _call(**fields).usage is None


LONG = [{"role": "user", "content": "descale " * 5_000}]


def _captured(value: Any, limit: int = 4_000) -> Any:
    """As capture writes it down and a frame is read."""
    return orjson.loads(orjson.dumps(capture(value, limit)[0]))


@pytest.mark.parametrize(
    "fields",
    [
        {"input": withheld(500_000)},  # the turn had no room left
        {"input": _captured(LONG)},  # its longest text cut
        {"input": _captured([{"role": "user", "content": "descale"}] * 1_000)},  # too large even so
        {"input": _captured("descale " * 5_000)},
        {"input": [{"role": "user", "content": [{"type": "text", "text": withheld(500_000)}]}]},
        {"output": withheld(500_000)},
        {"output": _captured(ANSWER * 1_000)},
        {"output": ["a ", "b", "…[turntrace: 7 more pieces cut]…"]},
        {"output": "Calling.", "tool_calls": withheld(500_000)},
        {"output": "Calling.", "tool_calls": [{"id": "1", "name": "f", "arguments": _captured("descale " * 5_000)}]},
        {"output": "Calling.", "tool_calls": [{"id": "1", "name": "f", "arguments": {"text": withheld(500_000)}}]},
        {"output": "Calling.", "tool_calls": [{"name": "f", "arguments": _captured({"a": ["descale"] * 5_000})}]},
    ],
)
def test_of_a_text_that_was_cut_nothing_is_estimated(fields: dict[str, Any]) -> None:
    assert _call(**fields).usage is None


@pytest.mark.parametrize("cut", ["gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.output.messages"])
def test_of_an_instrumentations_texts_that_were_withheld_nothing_is_estimated(cut: str) -> None:
    said: dict[str, Any] = {
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief"}]),
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "How?"}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": ANSWER}]}]),
    }
    assert _of_span(span(1, attributes={**CHAT, **said})).usage is not None
    assert _of_span(span(1, attributes={**CHAT, **said, cut: withheld(500_000)})).usage is None


def test_a_picture_that_was_cut_leaves_the_words_around_it_whole() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + BYTES * 100}}
    found = _call(input=_captured([{"role": "user", "content": [{"type": "text", "text": "How?"}, picture]}]))
    assert found.usage is not None


def test_vectors_that_were_cut_leave_the_text_that_they_stand_for_whole() -> None:
    found = _call(
        type="embedding", model="text-embedding-3-small", input="How?", output=_captured([[0.125] * 1_536] * 4)
    )
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (2, 0)


def test_a_text_that_only_looks_like_a_mark_is_counted() -> None:
    assert _call(input="What does …[turntrace: mean?").usage is not None


def test_a_call_that_has_not_ended_is_estimated_once_it_has() -> None:
    fields = {"type": "generation", "model": "gpt-4o-mini", "input": QUESTION, "output": ANSWER}
    open_at_the_end = _of_span(span(1, own=fields, duration_us=None, seen_us=900))
    assert (open_at_the_end.is_open, open_at_the_end.usage, open_at_the_end.cost) == (True, None, None)
    pipeline = Pipeline(Settings(redaction="off"), count_tokens=tokens.count)
    (late,) = pipeline.work([turn(span(1, own=fields), kind=FrameKind.AMEND)])
    assert late.trace.observations[0].usage == _call().usage is not None
    left_by_its_reader = _of_span(span(1, own=fields, seen_us=900))
    assert left_by_its_reader.usage is not None


def test_a_tokenizer_that_fails_keeps_no_turn_from_being_stored() -> None:
    def broken(model: str, text: str) -> int:
        raise RuntimeError(text)

    assert _call(broken).usage is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a", ["a"]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "b"}]}],
            ["a"],
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}],
            ["{}", "f"],
        ),
        ([{"name": "f", "arguments": {"city": "Köln", "days": 3}}], ['{"city": "Köln", "days": 3}', "f"]),
        ({"parts": [{"text": "a"}]}, ["a"]),
        # BlobPart of the GenAI conventions, and the same of Pydantic AI: pictures are no words
        (
            [{"content": [{"type": "text", "text": "a"}, {"type": "blob", "modality": "image", "content": BYTES}]}],
            ["a"],
        ),
        ([{"content": [{"type": "binary", "media_type": "image/png", "content": BYTES}]}], []),
        ([{"content": [{"type": "document", "mimeType": "application/pdf", "content": BYTES}]}], []),
        ([{"content": [{"type": "blob", "mime_type": "text/csv", "content": BYTES}]}], []),
        ([{"content": [{"type": "file", "mime_type": "text/plain", "text": "a"}]}], ["a"]),
        ({"content": {"mime_type": "application/json", "content": "a"}}, ["a"]),
        ({"content": {"mime_type": "text/markdown", "content": "a"}}, ["a"]),
        ({"type": ["of", "no", "kind"], "content": "a"}, ["a"]),
        (None, []),
        (7, []),
    ],
)
def test_only_what_a_model_reads_is_counted(value: Any, found: list[str]) -> None:
    assert list(texts(value)) == found


def test_special_tokens_in_a_text_are_text() -> None:
    assert tokens.count("gpt-4o", "<|endoftext|>") > 1
    assert tokens.count("gpt-4", "kettle") == tokens.count("openai/gpt-4-turbo", "kettle")
