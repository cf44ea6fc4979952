"""A worker that is told to end does, whatever it is at."""

import subprocess
import sys

import pytest

# The main thread holds what it looks at when the signal comes.
INTERRUPTED = """
import os, signal, threading
from turntrace.worker.signals import stop_on
stop = threading.Event()
stop_on([signal.SIGTERM, signal.SIGINT], stop)
with stop._cond:
    os.kill(os.getpid(), getattr(signal, "{name}"))
    for _ in range(1000):
        pass
raise SystemExit(0 if stop.wait(20) else 1)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_while_the_event_is_looked_at_is_heard(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED.format(name=name)], timeout=60)
    assert done.returncode == 0
