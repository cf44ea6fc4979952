"""The walk keeps the structure and reaches every text in it."""

import base64
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turntrace.pipeline.redact.media import refer
from turntrace.pipeline.redact.walk import MAX_DEPTH, TooDeep, walk


class Shout:
    """Writes every text in capitals, which shows that it was reached."""

    def text(self, text: str, prefix: str = "") -> str:
        return text.upper()

    def known(self, text: str, entity_type: str) -> str:
        return f"<{entity_type}>"


class Listen:
    """Changes nothing and notes what it is shown."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def text(self, text: str, prefix: str = "") -> str:
        self.heard.append(prefix + text)
        return text

    def known(self, text: str, entity_type: str) -> str:
        return text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hello there", "HELLO THERE"),
        (["hello", ("world", 3, None, True, 1.5)], ["HELLO", ("WORLD", 3, None, True, 1.5)]),
        ({"role": "user", "content": "hello"}, {"role": "user", "content": "HELLO"}),
        ({"arguments": '{"q": "hello", "n": [1, "two"]}'}, {"arguments": '{"q": "HELLO", "n": [1, "TWO"]}'}),
        ({"password": "x", "api_key": "y", "userPassword": "z"}, None),
        ({"a": b"1234"}, {"a": "[binary 4 B]"}),
        (["ab", ""], ["ab", ""]),
    ],
)
def test_every_text_is_visited_and_the_structure_stays(value: Any, expected: Any) -> None:
    if expected is None:
        expected = {"password": "<PASSWORD>", "api_key": "<API_KEY>", "userPassword": "<PASSWORD>"}
    assert walk(value, Shout()) == expected


def test_json_within_json_within_a_string_stays_valid() -> None:
    inner = json.dumps({"mail": "hello", "deep": json.dumps(["world \u0040"])})
    new = json.loads(walk(json.dumps({"arguments": inner}), Shout()))
    assert json.loads(json.loads(new["arguments"])["deep"]) == ["WORLD @"]


def test_a_key_given_twice_hides_nothing() -> None:
    assert walk('{"a": "first", "a": "other"}', Listen()) == '{"a": "other"}'


def test_escapes_are_undone_before_a_text_is_looked_at() -> None:
    listen = Listen()
    walk('{"a": "anna\\u0040example.com"}', listen)
    assert listen.heard == ["anna@example.com"]


def test_a_telling_key_gives_a_short_value_its_context() -> None:
    listen = Listen()
    walk({"homePhone": "4673395", "content": "4673395", "phones": 2025550143, "created_at": 1795226210}, listen)
    assert listen.heard == ["home phone: 4673395", "4673395"]


def test_numbers_with_a_fraction_are_read_as_a_person_would_write_them() -> None:
    listen = Listen()
    value = {"homePhone": 2025550143.0, "tax": 12.5, "created_at": 1795226210.0, "phone_cost": float("nan")}
    assert walk(value, listen) is value
    assert listen.heard == ["home phone: 2025550143"]
    known = walk({"card_number": 4111111111111111.0, "ssn": 10**400, "email": float("nan")}, Shout())
    assert (known["card_number"], known["ssn"]) == ("<CREDIT_CARD>", "<US_SSN>")
    assert known["email"] != "<EMAIL_ADDRESS>"


def test_nothing_changed_gives_back_the_very_object() -> None:
    value = {"messages": [{"role": "user", "content": "hello"}], "json": '{"a":  1}'}
    assert walk(value, Listen()) is value


def test_two_keys_that_become_one_keep_both_values() -> None:
    class Same(Listen):
        def text(self, text: str, prefix: str = "") -> str:
            return "same"

    assert walk({"a 1": 1, "b 2": 2}, Same()) == {"same": 1, "same (2)": 2}


def test_a_structure_too_deep_is_refused() -> None:
    value: Any = "text"
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(TooDeep):
        walk(value, Listen())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_valid_json_stays_valid_and_keeps_its_shape(value: Any) -> None:
    text = json.dumps(value)
    new = walk(text, Shout())
    if text[0] in "{[" and len(text) >= 8:
        assert _shape(json.loads(new)) == _shape(value)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted(str(_shape(item)) for item in value.values())
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return type(value).__name__ if not isinstance(value, (str, int)) else "leaf"


def test_images_become_references() -> None:
    picture = base64.b64encode(os.urandom(34 << 10)).decode()
    assert refer(f"see data:image/png;base64,{picture} here") == "see [image/png 34 KB] here"
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": picture}}
    assert walk(block, Listen())["source"]["data"] == "[image/jpeg 34 KB]"
    assert walk({"input_audio": {"data": picture}}, Listen()) == {"input_audio": {"data": "[base64 34 KB]"}}


@pytest.mark.parametrize("text", ["a" * 500, "1" * 500, "word " * 200, "data:,hello"])
def test_long_texts_that_are_no_base64_stay(text: str) -> None:
    assert refer(text) == text
