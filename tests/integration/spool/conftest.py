"""A spool directory, its keys, its writers and readers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from spooled import Clock

from turntrace.keyring import KeyRing
from turntrace.spool.reader import SpoolReader
from turntrace.spool.writer import SpoolWriter


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing([b"k" * 32], is_explicit=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "0123456789abcdef"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new_writer(root: Path, keys: KeyRing, clock: Clock) -> Iterator[Callable[..., SpoolWriter]]:
    made = []

    def new(**options: Any) -> SpoolWriter:
        made.append(SpoolWriter(root, options.pop("keys", keys), **{"clock": clock, **options}))
        return made[-1]

    yield new
    for writer in made:
        writer.close()


@pytest.fixture
def new_reader(root: Path, keys: KeyRing) -> Iterator[Callable[..., SpoolReader]]:
    made = []

    def new(**options: Any) -> SpoolReader:
        made.append(SpoolReader(root, options.pop("keys", keys), **{"mark": lambda segment: 0, **options}))
        return made[-1]

    yield new
    for reader in made:
        reader.close()
