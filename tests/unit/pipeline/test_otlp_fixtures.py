"""Spans that real libraries exported, against the answers that come with them."""

import random
from collections import Counter

import pytest

from tests.unit.pipeline.otlp_fixture import NAMES, compare, load, observe


def test_all_fixtures_are_here() -> None:
    assert len(NAMES) == 30


@pytest.mark.parametrize("name", NAMES)
def test_real_spans_give_their_expected_observations(name: str) -> None:
    fixture = load(name)
    assert compare(observe(fixture.spans), fixture.expected) == []


@pytest.mark.parametrize("name", NAMES)
def test_order_and_repetition_of_spans_change_nothing(name: str) -> None:
    fixture = load(name)
    shuffled = [*fixture.spans, *fixture.spans[::2]]
    random.Random(name).shuffle(shuffled)
    assert compare(observe(shuffled), fixture.expected) == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_known_is_left_in_the_metadata(name: str) -> None:
    """Metadata is for what nobody reads: content and token counts there would be stored twice."""
    left = Counter(key for item in observe(load(name).spans) for key in item.metadata)
    content = ("messages", "prompt.0", "span.kind", "spanInputs", "spanOutputs", "input.value", "output.value")
    counts = ("input_tokens", "output_tokens", "Tokens", "total_tokens", "cache_read_tokens")
    assert [key for key in left if key.endswith((*content, *counts))] == []


def test_the_comparison_sees_each_kind_of_difference() -> None:
    fixture = load("openinference-openai-httpx-session")
    observations = observe(fixture.spans)
    wanted = fixture.expected["observations"][1]
    wrong = {
        "type": "chain",
        "usage": {"input": 25},
        "tags": ["beta"],
        "input_contains": ["never said"],
        "parent_span_id": None,
        "model": "other",
        "metadata": {"tenant": "other"},
        "prompt_version": "v4",
        "finish_reasons": ["length"],
        "session_id": None,
    }
    for key, value in wrong.items():
        changed = [fixture.expected["observations"][0], {**wanted, key: value}]
        assert compare(observations, {**fixture.expected, "observations": changed}) != [], key
