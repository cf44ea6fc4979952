"""Content at capture: forms, bounds, and values nobody expected."""

import dataclasses
import datetime
import decimal
import time
import uuid
from pathlib import PurePosixPath
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from turntrace.tracing import encode


def form(value: Any, limit: int = 10_000) -> Any:
    wire, _ = encode.capture(value, limit)
    return orjson.loads(orjson.dumps(wire))


class Plain:
    pass


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Model(BaseModel):
    name: str
    when: datetime.date


@dataclasses.dataclass
class Record:
    a: int
    b: list[int]


def _cycle() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1.5, 1.5),
        ("text", "text"),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({1: "x"}, {"1": "x"}),
        ({(1, 2): "x"}, {"(1, 2)": "x"}),
        ({"d": decimal.Decimal("1.10")}, {"d": "1.10"}),
        ([PurePosixPath("/a")], ["/a"]),
        ([b"abc"], ["<bytes: 3 bytes>"]),
        ([Plain()], ["<Plain>"]),
        ([len, int], ["<len>", "<int>"]),
        ([ValueError("x")], [{"type": "ValueError", "message": "x"}]),
        ([uuid.UUID(int=1)], ["00000000-0000-0000-0000-000000000001"]),
        ([Record(1, [2])], [{"a": 1, "b": [2]}]),
        (Model(name="n", when=datetime.date(2026, 1, 2)), {"name": "n", "when": "2026-01-02"}),
        ({"\ud800": "\udc00"}, {"?": "?"}),
        ([1 << 80, "\ud800"], [str(1 << 80), "?"]),
        ([float("inf")], [None]),
        ([Broken()], ["<Broken>"]),
    ],
)
def test_every_value_has_a_form(value: Any, expected: Any) -> None:
    assert form(value) == expected


def test_a_cycle_ends() -> None:
    assert "<…>" in orjson.dumps(form(_cycle())).decode()


def test_iterators_are_named_and_not_consumed() -> None:
    steps = iter([1, 2])
    form([steps])
    assert list(steps) == [1, 2]


def test_a_text_keeps_head_and_tail_and_tells_its_length() -> None:
    wire, size = encode.capture("a" * 5_000 + "z" * 5_000, 1_024)
    assert wire.startswith("aaa")
    assert wire.endswith("zzz")
    assert "of 10000 characters cut]" in wire
    assert size == len(wire) <= 1_024


@pytest.mark.parametrize("text", ["ü" * 5_000, "漢" * 400, "😀" * 3_000, "\ud800" * 4_000])
def test_a_bound_is_one_of_bytes(text: str) -> None:
    wire, _ = encode.capture(text, 1_024)
    assert len(wire.encode("utf-8", "replace")) <= 1_024


def test_the_longest_texts_of_a_structure_are_cut_first() -> None:
    found = form([{"role": "system", "content": "s" * 50}, {"role": "user", "content": "u" * 100_000}], 4_096)
    assert found[0] == {"role": "system", "content": "s" * 50}
    assert "of 100000 characters cut]" in found[1]["content"]
    assert len(orjson.dumps(found)) <= 4_096


def test_a_structure_of_many_small_parts_keeps_head_and_tail() -> None:
    found = form(list(range(10_000)), 2_048)
    cut = found["turntrace.cut"]
    assert cut["bytes"] == len(orjson.dumps(list(range(10_000))))
    assert cut["head"].startswith("[0,1,2")
    assert cut["tail"].endswith("9999]")
    assert len(orjson.dumps(found)) <= 2_048


def test_a_huge_text_costs_little() -> None:
    text = "x" * 50_000_000
    started = time.perf_counter()
    encode.capture(text, 262_144)
    assert time.perf_counter() - started < 0.1
