"""Identifiers: UUIDv7 for turns, W3C ids for traces and spans, all as lower-case hex strings."""

import os
import random
import time

# A generator of our own: a host that seeds `random` for reproducible runs must not make our ids repeat.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)
bits = _random.getrandbits


def new_turn_id(now_ns: int | None = None) -> str:
    """A UUIDv7 (RFC 9562, method 3: the twelve bits after the version are the fraction of a millisecond)."""
    milliseconds, rest = divmod(time.time_ns() if now_ns is None else now_ns, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    return (milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | bits(62)).to_bytes(16, "big").hex()


def new_trace_id() -> str:
    """32 hex digits, never all zero (W3C Trace Context, section 3.2.2.3)."""
    return (bits(128) or 1).to_bytes(16, "big").hex()  # a quarter of the time that a format takes


def new_span_id() -> str:
    """16 hex digits, never all zero."""
    return (bits(64) or 1).to_bytes(8, "big").hex()
