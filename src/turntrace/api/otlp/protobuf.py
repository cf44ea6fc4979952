"""OTLP messages from their wire format, one span or record at a time, as the mappings that OTLP/JSON has for them.

Written out rather than generated: the generated classes tie a host to one range of `protobuf` releases, and build the
whole request in memory, at a multiple of its size, before anything of it can be counted.

Source: opentelemetry-proto 1.x (trace, logs, common, resource), protocol buffers encoding.
"""

import base64
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from turntrace.api.otlp.fault import Unreadable

MAX_DEPTH: Final = 64
# Fields of one span or record, nested ones included: more is no span that anybody made on purpose.
MAX_FIELDS: Final = 20_000
MAX_FRAME_FIELDS: Final = 500_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE: Final = struct.Struct("<d")
_LONGEST_VARINT: Final = 10

Data = bytes | memoryview
Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """How one field is read: its name in OTLP/JSON, its wire type, and what becomes of its value."""

    name: str
    wire: int
    read: Read | None = None  # of the bytes or the integer; None: it is a message
    message: "Message | None" = None
    is_repeated: bool = False


Message = dict[int, Field]


def _text(value: bytes) -> str:
    return str(value, "utf-8")


def _hex(value: bytes) -> str:
    return value.hex()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _double(value: int) -> float:
    found: float = _DOUBLE.unpack(value.to_bytes(8, "little"))[0]
    return found


def _same(value: int) -> int:
    return value


_ANY_VALUE: Final[Message] = {
    1: Field("stringValue", _BYTES, _text),
    2: Field("boolValue", _VARINT, bool),
    3: Field("intValue", _VARINT, _signed),
    4: Field("doubleValue", _FIXED64, _double),
    7: Field("bytesValue", _BYTES, _base64),
}
_KEY_VALUE: Final[Message] = {1: Field("key", _BYTES, _text), 2: Field("value", _BYTES, message=_ANY_VALUE)}
_ANY_VALUE[5] = Field("arrayValue", _BYTES, message={1: Field("values", _BYTES, message=_ANY_VALUE, is_repeated=True)})
_ANY_VALUE[6] = Field("kvlistValue", _BYTES, message={1: Field("values", _BYTES, message=_KEY_VALUE, is_repeated=True)})


def _attributes() -> Field:
    return Field("attributes", _BYTES, message=_KEY_VALUE, is_repeated=True)


_RESOURCE: Final[Message] = {1: _attributes()}
_SCOPE: Final[Message] = {1: Field("name", _BYTES, _text), 2: Field("version", _BYTES, _text)}
_STATUS: Final[Message] = {2: Field("message", _BYTES, _text), 3: Field("code", _VARINT, _same)}
_EVENT: Final[Message] = {
    1: Field("timeUnixNano", _FIXED64, _same),
    2: Field("name", _BYTES, _text),
    3: _attributes(),
}
SPAN: Final[Message] = {
    1: Field("traceId", _BYTES, _hex),
    2: Field("spanId", _BYTES, _hex),
    4: Field("parentSpanId", _BYTES, _hex),
    5: Field("name", _BYTES, _text),
    6: Field("kind", _VARINT, _same),
    7: Field("startTimeUnixNano", _FIXED64, _same),
    8: Field("endTimeUnixNano", _FIXED64, _same),
    9: _attributes(),
    11: Field("events", _BYTES, message=_EVENT, is_repeated=True),
    15: Field("status", _BYTES, message=_STATUS),
}
LOG_RECORD: Final[Message] = {
    1: Field("timeUnixNano", _FIXED64, _same),
    5: Field("body", _BYTES, message=_ANY_VALUE),
    6: _attributes(),
    9: Field("traceId", _BYTES, _hex),
    10: Field("spanId", _BYTES, _hex),
    11: Field("observedTimeUnixNano", _FIXED64, _same),
    12: Field("eventName", _BYTES, _text),
}

Entry = tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]


def entries(data: Data, leaf: Message) -> Iterator[Entry]:
    """Resource, scope, and span or record of a request, one after the other; None for one that cannot be read.

    Args:
        leaf: `SPAN` or `LOG_RECORD`.

    Raises:
        Unreadable: the frame around them is damaged.
    """
    frame = _Frame(data)
    for start, end in frame.parts(0, len(data), 1):
        resource = frame.first(start, end, 1, _RESOURCE)
        for inner, inner_end in frame.parts(start, end, 2):
            scope = frame.first(inner, inner_end, 1, _SCOPE)
            for at, until in frame.parts(inner, inner_end, 2):
                yield resource, scope, _leaf(data, at, until, leaf)


def _leaf(data: Data, at: int, end: int, message: Message) -> dict[str, Any] | None:
    part = bytes(data[at:end])
    try:
        return _Reader(part).read(0, len(part), message, 0)
    except (Unreadable, UnicodeDecodeError):
        return None


class _Frame:
    """What stands around spans and records; a body of nothing but empty fields is given up."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: Data) -> None:
        self._data = data
        self._left = MAX_FRAME_FIELDS

    def first(self, at: int, end: int, number: int, message: Message) -> dict[str, Any]:
        """The submessage of this number; what cannot be read of it does not cost the spans below it."""
        for start, stop in self.parts(at, end, number):
            return _leaf(self._data, start, stop, message) or {}
        return {}

    def parts(self, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
        """Where the submessages of this number stand."""
        data = self._data
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise Unreadable("too many fields")
            key, at = _varint(data, at, end)
            wire = key & 7
            if wire == _BYTES:
                length, at = _varint(data, at, end)
                if at + length > end:
                    raise Unreadable(f"a field at byte {at} is longer than what it stands in")
                if key >> 3 == number:
                    yield at, at + length
                at += length
            else:
                at = _skip(data, at, end, wire)


class _Reader:
    """Reads one message, counting fields."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_FIELDS

    def read(self, at: int, end: int, message: Message, depth: int) -> dict[str, Any]:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        data, found = self._data, dict[str, Any]()
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise Unreadable("too many fields")
            key = data[at]
            if key < 0x80:
                at += 1
            else:
                key, at = _varint(data, at, end)
            field = message.get(key >> 3)
            if field is None or field.wire != key & 7:
                at = _skip(data, at, end, key & 7)
                continue
            if field.wire == _BYTES:
                value, at = self._bytes(at, end, field, depth)
            else:
                value, at = _number_of(data, at, end, field)
            if field.is_repeated:
                found.setdefault(field.name, []).append(value)
            else:
                found[field.name] = value
        return found

    def _bytes(self, at: int, end: int, field: Field, depth: int) -> tuple[Any, int]:
        data = self._data
        length = data[at] if at < end else 0x80
        if length < 0x80:
            at += 1
        else:
            length, at = _varint(data, at, end)
        stop = at + length
        if stop > end:
            raise Unreadable("a field is longer than what it stands in")
        if field.message is not None:
            return self.read(at, stop, field.message, depth + 1), stop
        assert field.read is not None
        return field.read(data[at:stop]), stop


def _number_of(data: bytes, at: int, end: int, field: Field) -> tuple[Any, int]:
    assert field.read is not None
    if field.wire == _VARINT:
        number, at = _varint(data, at, end)
        return field.read(number), at
    if at + 8 > end:
        raise Unreadable("a number is cut off")
    return field.read(int.from_bytes(data[at : at + 8], "little")), at + 8


def _varint(data: Data, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte is."""
    found = shift = 0
    for place in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[place]
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    raise Unreadable(f"the number at byte {at} has no end")


def _skip(data: Data, at: int, end: int, wire: int) -> int:
    """Where the next field is."""
    if wire == _VARINT:
        return _varint(data, at, end)[1]
    if wire == _BYTES:
        length, at = _varint(data, at, end)
        at += length
    elif wire in (_FIXED64, _FIXED32):
        at += 8 if wire == _FIXED64 else 4
    else:
        raise Unreadable(f"the field at byte {at} has a type that is not used")
    if at > end:
        raise Unreadable(f"a field before byte {at} is longer than what it stands in")
    return at


def string_field(number: int, text: str) -> bytes:
    """A string as a field, for answers."""
    return bytes_field(number, text.encode())


def bytes_field(number: int, value: bytes) -> bytes:
    """Bytes or a message as a field."""
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def int_field(number: int, value: int) -> bytes:
    """A number as a field."""
    return _number(number << 3 | _VARINT) + _number(value)


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
