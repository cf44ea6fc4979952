"""Log buckets of lengths: each holds values within 1 % of its middle, and buckets of any rows add up."""

import math
from collections.abc import Iterable
from typing import Final

import orjson

_ACCURACY: Final = 0.01
_GAMMA: Final = (1 + _ACCURACY) / (1 - _ACCURACY)
_PER_E: Final = 1 / math.log(_GAMMA)

Counts = dict[int, int]  # bucket → how many lengths fell into it


def bucket_of(length_us: int) -> int:
    """The bucket of a length in microseconds; 0 holds everything up to 1 µs."""
    return 0 if length_us <= 1 else math.ceil(math.log(length_us) * _PER_E)


def middle_us(bucket: int) -> float:
    """The length in microseconds that stands for a bucket: at most 1 % from every value in it."""
    return 2 * _GAMMA**bucket / (_GAMMA + 1)


def packed(counts: Counts) -> str:
    """Counts as the text of a row: `[bucket,n,bucket,n,…]`, empty buckets left out; `[]` of nothing."""
    return orjson.dumps([number for item in sorted(counts.items()) if item[1] for number in item]).decode()


def add_packed(counts: Counts, text: str) -> None:
    """Add what `packed` wrote to counts."""
    numbers = orjson.loads(text)
    for bucket, n in zip(numbers[::2], numbers[1::2], strict=True):
        counts[bucket] = counts.get(bucket, 0) + n


def merged(several: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    total: Counts = {}
    for counts in several:
        for bucket, n in counts.items():
            total[bucket] = total.get(bucket, 0) + n
    return total
