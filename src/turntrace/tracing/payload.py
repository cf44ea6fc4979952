"""The JSON of a turn's frames: `records/fragment.py` with everything left out that was never set."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from turntrace.tracing import encode
from turntrace.tracing.span import Recorded


def payload(header: Mapping[str, Any], spans: Sequence[Recorded]) -> bytes:
    """The bytes of one frame."""
    document = {"turn": header, "spans": [span.wire() for span in spans]}
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate in a name, say
        return encode.dump(document)
