"""Personal data cut into chunks by streaming."""

import json
import re

import pytest

from turntrace.pipeline.redact.stream import Replacement, Stream, is_stream
from turntrace.pipeline.redact.walk import TooDeep


class Find:
    """Finds one e-mail address, and telephones of eleven digits with nothing of a word beside them."""

    _FOUND = re.compile(r"(?P<EMAIL>anna@example\.com)|(?<!\w)(?P<PHONE>\d{11})(?!\w)")

    def spans(self, text: str) -> list[Replacement]:
        return [(found.start(), found.end(), f"<{found.lastgroup}>") for found in self._FOUND.finditer(text)]

    def text(self, text: str, prefix: str = "") -> str:
        return self._FOUND.sub(lambda found: f"<{found.lastgroup}>", text)

    def known(self, text: str, entity_type: str) -> str:
        return f"<{entity_type}>"


find = Find()


def events(chunks: list[str]) -> str:
    return (
        "".join(f"data: {json.dumps({'choices': [{'delta': {'content': chunk}}]})}\n\n" for chunk in chunks)
        + "data: [DONE]\n\n"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_an_address_cut_into_chunks_is_found_and_taken_out(size: int) -> None:
    said = "write to anna@example.com today"
    body = events([said[start : start + size] for start in range(0, len(said), size)])
    new = Stream(body).rewrite(find)
    assert new is not None
    chunks = [json.loads(line[6:]) for line in new.split("\n\n") if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == "write to <EMAIL> today"
    assert new.endswith("data: [DONE]\n\n")


def test_plain_text_events_and_numbered_lines_are_put_together_too() -> None:
    assert Stream("data: anna@ex\n\ndata: ample.com\n\n").rewrite(find) == "data: <EMAIL>\n\ndata: \n\n"
    assert Stream('0:"anna@exam"\n0:"ple.com"\n').rewrite(find) == '0:"<EMAIL>"\n0:""\n'.replace('0:""', '0:""')


def test_a_body_without_findings_is_left_as_it_is() -> None:
    assert Stream(events(["hello", " there"])).rewrite(find) is None


def lines(*values: object) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lines({"a": "49151234567"}, {"a": "49159876543"}), lines({"a": "<PHONE>"}, {"a": "<PHONE>"})),
        ("data: 49151234567\n\ndata: 49159876543\n\n", "data: <PHONE>\n\ndata: <PHONE>\n\n"),
        (lines({"n": 1}, {"first_name": "Anna", "password": "x"}),
         lines({"n": 1}, {"first_name": "<PERSON>", "password": "<PASSWORD>"})),
        (lines({"n": 1}, {"card_number": 4111111111111111, "n": 2.5}),
         lines({"n": 1}, {"card_number": "<CREDIT_CARD>", "n": 2.5})),
        (lines({"n": 1}, {"49151234567": 1, "49159876543": 2}), lines({"n": 1}, {"<PHONE>": 1, "<PHONE> (2)": 2})),
        (lines({"d": '{"first_na'}, {"d": 'me": "Anna"}'}), lines({"d": '{"first_name": "<PERSON>"}'}, {"d": ""})),
        (lines({"d": '{"first_name": "Anna"}'}, {"d": '{"first_name": "Bea"}'}),
         lines({"d": '{"first_name": "<PERSON>"}'}, {"d": '{"first_name": "<PERSON>"}'})),
        (lines({"d": "49151234567 or anna@exam"}, {"d": "ple.com"}), lines({"d": "<PHONE> or <EMAIL>"}, {"d": ""})),
    ],
)  # fmt: skip
def test_values_of_successive_events_are_looked_at_on_their_own_too(body: str, expected: str) -> None:
    new = Stream(body).rewrite(find)
    assert new is not None
    assert new.replace('":', '": ').replace('":  ', '": ').replace(',"', ', "') == expected


def test_what_stands_deep_in_an_event_is_found_or_the_stream_is_refused() -> None:
    assert Stream(f'data: {"[" * 60}"anna@example.com"{"]" * 60}').rewrite(find) is not None
    with pytest.raises(TooDeep):
        Stream(f'data: {"[" * 90}"anna@example.com"{"]" * 90}')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("data: x", True),
        ("retry: 3000\n\ndata: x", True),
        ("event: a\ndata: b", True),
        ('{"a":1}\n{"a":2}', True),
        ("Hello you", False),
        ('{"a":1}', False),
    ],
)
def test_streams_are_told_from_texts(body: str, expected: bool) -> None:
    assert is_stream(body) is expected
