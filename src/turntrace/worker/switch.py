"""The kill switch of the database, told to the capturing processes by a file: they never ask a database themselves."""

import contextlib
import os
from pathlib import Path
from typing import Final

FILE: Final = "switched-off"


def is_switched_off(root: Path) -> bool:
    """Whether recording is switched off for the application that spools below `root`; one `stat`."""
    try:
        os.stat(root / FILE)
    except OSError:
        return False
    return True


def switch(root: Path, *, is_on: bool) -> None:
    """Put the file there, or take it away; a spool that cannot be written to leaves things as they are."""
    with contextlib.suppress(OSError):
        if is_on:
            (root / FILE).unlink(missing_ok=True)
        else:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / FILE).touch(mode=0o600)
