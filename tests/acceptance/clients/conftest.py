"""The long form has tests of its own, which build an environment for each library: not collected in the short one."""

import os

import pytest

collect_ignore = [] if os.environ.get("TURNTRACE_TEST_LONG") else ["test_frameworks.py"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
