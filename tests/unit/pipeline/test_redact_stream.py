"""Personal data cut into chunks by streaming."""

import json

import pytest

from turntrace.pipeline.redact.stream import Stream, is_stream


def find(text: str) -> list[tuple[int, int, str]]:
    start = text.find("anna@example.com")
    return [] if start < 0 else [(start, start + len("anna@example.com"), "<EMAIL>")]


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


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("data: x", True),
        ("event: a\ndata: b", True),
        ('{"a":1}\n{"a":2}', True),
        ("Hello you", False),
        ('{"a":1}', False),
    ],
)
def test_streams_are_told_from_texts(body: str, expected: bool) -> None:
    assert is_stream(body) is expected
