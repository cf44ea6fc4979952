"""Everything held about a person, as JSON lines or a ZIP of them: access and portability (GDPR, articles 15 and 20).

The last record is the `end`, which says whether the copy is whole. One without it was cut off on its way.
"""

import io
import logging
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

from turntrace.api import shape
from turntrace.api.answer import money, render, time
from turntrace.errors import TurntraceError
from turntrace.pipeline.redact import number_tags
from turntrace.records.erasure import Target
from turntrace.storage.database import Database
from turntrace.storage.queries import subject
from turntrace.storage.queries.opened import UNREADABLE

log = logging.getLogger("turntrace.api")

# Other people's names, and how work is shared out between machines: nothing about the subject.
_LEFT_OUT: Final = frozenset({"author", "reviewer", "owner", "lease_until_us", "attempt", "due_at_us", "reserved_nano"})
_NANO: Final = "_nano"
_INSTANT: Final = "at_us"
_CHUNK: Final = 64 << 10
_BROKEN_OFF: Final = "A database that holds more of it cannot be read. This copy is not whole: ask for it again later."

Record = dict[str, Any]


def records(database: Database, user_ids: tuple[str, ...]) -> Iterator[Record]:
    """One JSON object a record: `record` says which kind; first the `manifest`, last the `end`. Traces are as
    the API answers them, with their observations and scores; placeholders of redacted texts are numbered per trace.

    Raises:
        DatabaseUnavailable, SchemaOutOfDate: a database that has some of it is away, or not named. At once where it is
            so from the beginning, else from the iterator.
    """
    target = Target(kind="subject", user_ids=user_ids)
    with database.read() as connection:
        ids = subject.turn_ids(connection, target)
    subject.look(database, ids)
    return _records(database, target, ids)


def _records(database: Database, target: Target, ids: list[str]) -> Iterator[Record]:
    yield {"record": "manifest", "format": "turntrace subject export", "version": 1, "traces": len(ids)}
    written = unreadable = 0
    for trace in subject.turns(database, ids):
        written += 1
        unreadable += UNREADABLE in trace.flags
        yield {"record": "trace", **shape.whole_trace([trace])}
    for name, row in subject.rows(database, target, ids):
        yield {"record": name, **_plain(row)}
    yield {"record": "end", "is_complete": not unreadable, "traces": written, "unreadable_traces": unreadable}


def _plain(row: Mapping[str, Any]) -> Record:
    """A row with times, money and placeholders as the API writes them."""
    found: Record = {}
    for name, value in row.items():
        if name in _LEFT_OUT or isinstance(value, (bytes, memoryview)):
            continue
        if name.endswith(_INSTANT):
            found[name.removesuffix("_us")] = time(value)
        elif name.endswith(_NANO):
            found[name.removesuffix("_nano")] = money(value)
        else:
            found[name] = value
    numbered: Record = number_tags(found, {})
    return numbered


def lines(found: Iterator[Record]) -> Iterator[bytes]:
    """The records as JSON lines. Where a database goes away meanwhile the last one says so: the answer has begun."""
    try:
        for record in found:
            yield render(record) + b"\n"
    except TurntraceError as error:
        log.warning("a copy of what is held about a person broke off: %s", error)
        yield render({"record": "end", "is_complete": False, "reason": _BROKEN_OFF}) + b"\n"


def archive(found: Iterator[Record]) -> Iterator[bytes]:
    """The records as a ZIP that is written while it is read: `subject.jsonl`, compressed."""
    written = _Written()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file, file.open("subject.jsonl", "w") as member:
        for line in lines(found):
            member.write(line)
            if written.size > _CHUNK:
                yield written.take()
    yield written.take()


class _Written(io.RawIOBase):
    """A file that only goes forward: what was written is handed on and forgotten."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        self.size += len(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        found, self._parts, self.size = b"".join(self._parts), [], 0
        return found
