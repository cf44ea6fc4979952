"""Turns as payloads, a clock, and what a worker does with a reader."""

import orjson

from turntrace.spool.reader import Frame, SpoolReader


class Clock:
    """Seconds that go on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def turn(number: int, size: int = 0) -> bytes:
    """A payload of turn `number` with about `size` bytes of content."""
    return orjson.dumps({"turn": {"id": f"{number:032x}", "name": "n" * size}})


def number_of(frame: Frame) -> int:
    return int(orjson.loads(frame.payload)["turn"]["id"], 16)


def read_all(reader: SpoolReader) -> list[Frame]:
    """Everything that can be read now."""
    found: list[Frame] = []
    while frames := reader.poll(100, 1 << 20):
        found += frames
    return found


def store_all(reader: SpoolReader) -> list[Frame]:
    """Read everything, commit it, and let its files go."""
    frames = read_all(reader)
    marks: dict[str, int] = {}
    for frame in frames:
        marks[frame.segment] = frame.sequence
    reader.commit(marks)
    reader.release(frozenset())
    return frames


def bury_dead(reader: SpoolReader) -> list[Frame]:
    """Store what dead processes left, and remove their directories."""
    reader.dead()  # adopts
    frames = store_all(reader)
    for process_id in reader.dead():
        reader.release(frozenset())
        reader.forget(process_id)
    return frames
