"""Signals that end a worker."""

import _thread
import signal
import threading
from collections.abc import Iterable


def stop_on(numbers: Iterable[int], stop: threading.Event) -> None:
    """Set `stop` when one of these signals comes. Of the main thread only.

    In a thread of its own: a handler interrupts the main thread anywhere, also where that holds the lock of the event
    that it looks at, and would wait for itself for ever.
    """
    for number in numbers:
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
