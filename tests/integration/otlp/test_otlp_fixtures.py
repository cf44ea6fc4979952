"""Spans and log records of real libraries through the receiver, against the answers that come with them."""

import json
import random
from typing import Any

import pytest

from tests.integration.otlp.inlet import Inlet, Sender, singly
from tests.unit.pipeline.otlp_fixture import FOLDER, NAMES, compare


def load(name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The requests of a fixture, and its answers."""
    expected = json.loads((FOLDER / f"{name}.expected.json").read_text())
    files = [expected["fixture"], *([expected["logs"]] if expected["logs"] else [])]
    return [json.loads((FOLDER / file).read_text()) for file in files], expected


def differences(sender: Sender, expected: dict[str, Any]) -> list[str]:
    found = [sender.trace(trace_id) for trace_id in {item["trace_id"] for item in expected["observations"]}]
    turns = [turn for turn in found if turn is not None]
    assert len(turns) == expected["traces"]
    return compare([item for turn in turns for item in turn.observations], expected)


@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "protobuf"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_fixture_in_one_request_gives_its_answers(name: str, is_binary: bool, inlet: Inlet) -> None:
    documents, expected = load(name)
    sender = inlet.sender()
    for document in documents:
        answer = await sender.send(document, is_binary=is_binary)
        assert (answer.status_code, answer.content) == (200, b"" if is_binary else b"{}")
    inlet.work()
    assert differences(sender, expected) == []


@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "protobuf"])
@pytest.mark.parametrize("name", NAMES)
async def test_span_by_span_in_any_order_and_twice_gives_the_same(name: str, is_binary: bool, inlet: Inlet) -> None:
    documents, expected = load(name)
    sender = inlet.sender()
    chance = random.Random(f"{name} {is_binary}")
    parts = [*singly(documents), *singly(documents)]
    chance.shuffle(parts)
    for part in parts:
        assert (await sender.send(part, is_binary=is_binary)).status_code == 200
        if chance.random() < 0.5:
            inlet.work()
    inlet.work()
    assert differences(sender, expected) == []


@pytest.mark.parametrize("name", NAMES)
async def test_all_of_it_again_later_changes_nothing(name: str, inlet: Inlet) -> None:
    documents, expected = load(name)
    sender = inlet.sender()
    for document in (*reversed(documents), *documents):
        assert (await sender.send(document)).status_code == 200
        inlet.work()
    assert differences(sender, expected) == []
