"""Overlapping findings become one that leaves nothing standing."""

import pytest

from turntrace.pipeline.redact import Entity, settle


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([Entity(5, 9, "A"), Entity(0, 3, "B")], [(0, 3, "B"), (5, 9, "A")]),
        ([Entity(0, 10, "EMAIL", 0.9), Entity(4, 10, "URL", 0.5)], [(0, 10, "EMAIL")]),
        ([Entity(0, 4, "A", 0.5), Entity(2, 8, "B", 0.9), Entity(7, 12, "C", 0.4)], [(0, 12, "B")]),
        ([Entity(0, 4, "A", 0.5), Entity(0, 9, "B", 0.5)], [(0, 9, "B")]),
        ([Entity(0, 4, "A"), Entity(4, 6, "B"), Entity(3, 3, "C")], [(0, 4, "A"), (4, 6, "B")]),
    ],
)
def test_overlaps_are_settled(found: list[Entity], expected: list[tuple[int, int, str]]) -> None:
    assert [(item.start, item.end, item.type) for item in settle(found)] == expected
