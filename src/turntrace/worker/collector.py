"""Python's garbage collector in a process that does nothing but work on turns."""

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 50)


def relax_collector() -> None:
    """Have it look for cycles a hundred times less often.

    A batch makes some hundred thousand objects that live until it is stored; to look through them again and again took
    a fifth of the worker's time. For processes of our own only: in the host's, this is the host's to decide.
    """
    gc.set_threshold(*_THRESHOLDS)
