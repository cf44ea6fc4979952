"""The public surface: what can be imported from `turntrace`, pinned."""

import pytest

import turntrace


def test_the_door_has_exactly_these_names() -> None:
    assert turntrace.__all__ == sorted(turntrace.__all__)
    assert set(turntrace.__all__) >= {
        "Settings",
        "Turntrace",
        "TurntraceError",
        "TurntraceMiddleware",
        "TurntraceWSGIMiddleware",
        "ignore_turntrace_tables",
        "observe",
    }


@pytest.mark.parametrize("name", turntrace.__all__)
def test_every_name_of_the_door_can_be_had(name: str) -> None:
    assert getattr(turntrace, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = turntrace.nothing
