"""Async tests of this directory run on asyncio, as the servers do."""

import pytest

from tests.integration.capture.recording import Recording


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def recording() -> Recording:
    return Recording()
