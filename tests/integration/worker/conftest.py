"""A spool, its writers, and workers over it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from turntrace.assembly import stored_mark
from turntrace.keyring import KeyRing
from turntrace.pipeline import Pipeline
from turntrace.settings import Settings
from turntrace.spool.reader import SpoolReader
from turntrace.spool.writer import SpoolWriter
from turntrace.storage.database import Database
from turntrace.worker.loop import Worker
from turntrace.worker.status import write_status

NewWriter = Callable[..., SpoolWriter]
NewWorker = Callable[..., Worker]


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing([b"k" * 32], is_explicit=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "0123456789abcdef"


@pytest.fixture
def new_writer(root: Path, keys: KeyRing) -> Iterator[NewWriter]:
    """Writers; one that is still open at the end of the test is closed."""
    made: list[SpoolWriter] = []

    def new(**options: Any) -> SpoolWriter:
        made.append(SpoolWriter(root, keys, **options))
        return made[-1]

    yield new
    for writer in made:
        writer.close()


@pytest.fixture
def new_worker(root: Path, keys: KeyRing, database: Database) -> Iterator[NewWorker]:
    """Workers over the spool, each with a reader of its own that knows nothing but the stored marks."""
    readers: list[SpoolReader] = []

    def new(*, store_in: Database | None = None, settings: Settings | None = None, **options: Any) -> Worker:
        target = store_in or database
        for reader in readers:
            reader.close()
        clocks = {"wall": options["wall"]} if "wall" in options else {}
        readers.append(SpoolReader(root, keys, mark=stored_mark(target), **clocks))
        pipeline = options.pop("pipeline", None) or Pipeline(settings or Settings(redaction="off"))
        return Worker(readers[-1], target, pipeline, tell=lambda status: write_status(root, status), **options)

    yield new
    for reader in readers:
        reader.close()


def work(worker: Worker, *, idle_steps: int = 2) -> None:
    """Steps until there is nothing to do; a dead process takes two steps without a frame to be noticed."""
    idle = 0
    while idle < idle_steps:
        idle = 0 if worker.step() else idle + 1
