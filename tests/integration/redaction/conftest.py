"""One analyser for the whole session (its process takes a second to start), and an engine in this process."""

from collections.abc import Iterator

import pytest

from turntrace.integrations.presidio import PresidioAnalyzer, build_analyzer
from turntrace.integrations.presidio.engine import Engine, EngineConfig
from turntrace.settings import Settings


@pytest.fixture(scope="session")
def analyzer() -> Iterator[PresidioAnalyzer]:
    made = build_analyzer(Settings())
    assert made is not None
    yield made
    made.close()


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(EngineConfig(seconds=30))
