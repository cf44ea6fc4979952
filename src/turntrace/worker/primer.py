"""A turn of nobody, to load what turns need (the price table above all) before the first of somebody comes."""

from typing import Final

from turntrace.pipeline import Pipeline, decode
from turntrace.records.fragment import FrameKind

_FRAME: Final = (
    b'{"turn":{"id":"%(z)b%(z)b","trace_id":"%(z)b%(z)b","span_id":"%(z)b"},"spans":[{"span_id":"%(z)b","own":'
    b'{"type":"generation","model":"gpt-4o-mini","input":"a question","usage":{"input_tokens":1}}}]}'
) % {b"z": b"0" * 16}


def prime(pipeline: Pipeline) -> None:
    """Send it through; what comes out is stored nowhere."""
    pipeline.work([decode(FrameKind.END, _FRAME)])
