"""The quicker constructor keeps every promise of the dataclass it is put on."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

from turntrace.records.construct import quick


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 2
    tags: dict[str, Any] = field(default_factory=dict)


def test_arguments_and_defaults_are_those_of_the_dataclass() -> None:
    assert Point(x=1) == Point(x=1, y=2, tags={})
    assert Point(x=1, tags={"a": 1}).tags == {"a": 1}
    assert repr(Point(x=1)) == "Point(x=1, y=2, tags={})"


def test_each_record_gets_a_default_of_its_own() -> None:
    assert Point(x=1).tags is not Point(x=1).tags


@pytest.mark.parametrize("arguments", [{}, {"x": 1, "z": 2}])
def test_missing_and_unknown_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="argument"):
        Point(**arguments)


def test_records_stay_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Point(x=1).x = 2  # type: ignore[misc]


def test_records_can_be_replaced_copied_and_pickled() -> None:
    point = Point(x=1, tags={"a": 1})
    assert replace(point, y=5) == Point(x=1, y=5, tags={"a": 1})
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
