"""Wrong arguments of the public interface raise at once and say what is allowed; nothing else reaches the host."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turntrace import Settings, Turntrace


@pytest.fixture
def tt(tmp_path: Path) -> Iterator[Turntrace]:
    made = Turntrace(
        database_url=f"sqlite:///{tmp_path / 'turntrace.db'}",
        spool_dir=str(tmp_path / "spool"),
        worker="external",
        secret_key="k" * 32,
    )
    yield made
    made.shutdown()


def test_settings_and_single_settings_are_not_given_together() -> None:
    with pytest.raises(TypeError):
        Turntrace(settings=Settings(), worker="thread")


def test_an_unknown_type_names_the_known_ones(tt: Turntrace) -> None:
    with pytest.raises(ValueError, match="generation.*retrieval"):
        tt.observation("x", type="thought")
    with pytest.raises(ValueError, match="generation"):
        tt.observe(type="thought")


def test_an_unknown_level_names_the_known_ones(tt: Turntrace) -> None:
    with pytest.raises(ValueError, match="warning"):
        tt.observation("x", level="loud")


def test_an_unknown_field_is_a_type_error(tt: Turntrace) -> None:
    with pytest.raises(TypeError, match="colour"):
        tt.update_trace(colour="blue")
    with tt.observation("x") as observation, pytest.raises(TypeError, match="colour"):
        observation.update(colour="blue")


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "", "value": 1},
        {"name": "x", "value": float("nan")},
        {"name": "x", "value": object()},
        {"name": "x", "value": "a", "data_type": "numeric"},
        {"name": "x", "value": 1, "data_type": "stars"},
        {"name": "x", "value": 1, "comment": "c" * 6000},
        {"name": "x", "value": 1, "observation_id": "short"},
    ],
)
def test_an_unusable_score_is_a_value_error(tt: Turntrace, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        tt.score(trace_id="0" * 31 + "1", **arguments)


def test_a_score_outside_any_turn_with_no_target_is_none(tt: Turntrace) -> None:
    assert tt.score("x", 1) is None


def test_making_one_does_no_io(tmp_path: Path) -> None:
    Turntrace(database_url=f"sqlite:///{tmp_path / 'turntrace.db'}", spool_dir=str(tmp_path / "spool"))
    assert list(tmp_path.iterdir()) == []
