"""Cursors of keyset pages."""

import pytest

from turntrace.errors import InvalidInput
from turntrace.storage.queries.cursor import decode, encode


@pytest.mark.parametrize("key", ["", "a" * 32, "ünï\ncode", '"'])
def test_a_cursor_comes_back_as_it_went(key: str) -> None:
    assert decode(encode(1_795_168_800_000_000, key)) == (1_795_168_800_000_000, key)
    assert encode(1, key).isascii()


def test_no_cursor_is_no_position() -> None:
    assert decode(None) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "e30", "WzEsMl0", "ünï", "W10", "[1,2]", "A" * 5000, encode(2**63, "x"), encode(1, "x" * 1001)),
        *(encode(1, "a\0b"), encode(1, "half an emoji: \ud83d")),
    ],
)
def test_a_foreign_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="next_cursor"):
        decode(text)
