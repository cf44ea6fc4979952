"""The JSON of a turn's frames: `records/fragment.py` with everything left out that was never set."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from turntrace.tracing import encode
from turntrace.tracing.span import Recorded


def payload(header: Mapping[str, Any], spans: Sequence[Recorded]) -> bytes:
    """The bytes of one frame."""
    facts = [span.facts if span.is_settled else span.wire() for span in spans]
    document = {"turn": header, "spans": facts}
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate in a name, say
        return encode.dump(document)
