"""Placeholders: keyed when stored, numbered when shown."""

import re

import pytest

from turntrace.pipeline.redact import Tagger, number_tags

KEY = b"k" * 32


def test_one_value_has_one_placeholder_within_a_turn_whatever_its_spelling() -> None:
    tagger = Tagger(KEY, "turn")
    assert tagger.tag("EMAIL_ADDRESS", "Anna@Example.com") == tagger.tag("EMAIL_ADDRESS", "anna@example.com")
    assert tagger.tag("PHONE_NUMBER", "+1 202-555-0143") == tagger.tag("PHONE_NUMBER", "+1 (202) 555 0143")
    assert tagger.tag("EMAIL_ADDRESS", "anna@example.com") != tagger.tag("EMAIL_ADDRESS", "anne@example.com")


def test_a_later_fragment_of_the_turn_gets_the_same_placeholder() -> None:
    assert Tagger(KEY, "turn").tag("EMAIL_ADDRESS", "a@b.example") == Tagger(KEY, "turn").tag(
        "EMAIL_ADDRESS", "a@b.example"
    )


@pytest.mark.parametrize("other", [Tagger(KEY, "another turn"), Tagger(b"j" * 32, "turn")])
def test_another_turn_or_key_gives_another_placeholder(other: Tagger) -> None:
    assert other.tag("EMAIL_ADDRESS", "a@b.example") != Tagger(KEY, "turn").tag("EMAIL_ADDRESS", "a@b.example")


def test_passwords_are_told_apart_by_case() -> None:
    tagger = Tagger(KEY, "turn")
    assert tagger.tag("PASSWORD", "Secret") != tagger.tag("PASSWORD", "secret")


def test_placeholders_say_their_kind_and_nothing_of_the_value() -> None:
    assert re.fullmatch(r"<EMAIL_k[0-9a-f]{8}>", Tagger(KEY, "turn").tag("EMAIL_ADDRESS", "anna@example.com"))


def test_shown_numbers_count_each_kind_in_the_order_of_appearance() -> None:
    tagger = Tagger(KEY, "turn")
    first, second = tagger.tag("EMAIL_ADDRESS", "a@b.example"), tagger.tag("EMAIL_ADDRESS", "c@d.example")
    phone = tagger.tag("PHONE_NUMBER", "+1 202 555 0143")
    numbering: dict[str, str] = {}
    shown = number_tags({"input": [f"{first} {second}", {"x": phone}], "n": 3, first: None}, numbering)
    assert shown == {"input": ["<EMAIL_1> <EMAIL_2>", {"x": "<PHONE_1>"}], "n": 3, "<EMAIL_1>": None}
    assert number_tags((f"again {second}",), numbering) == ("again <EMAIL_2>",)


@pytest.mark.parametrize("text", ["<EMAIL_1>", "<b_k12345678>", "plain", "", "<EMAIL_kZZ>"])
def test_other_texts_are_shown_as_they_are(text: str) -> None:
    assert number_tags(text) == text
