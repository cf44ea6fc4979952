"""Which requests become traces by their route (setting `record`)."""

from fnmatch import fnmatchcase
from functools import lru_cache


def is_chosen(record: str, *places: str | None) -> bool:
    """Whether `record`, which is not `ai`, names one of the places: route template or path of a request."""
    return any(fnmatchcase(place, pattern) for place in places if place for pattern in _patterns(record))


@lru_cache(maxsize=64)
def _patterns(record: str) -> tuple[str, ...]:
    if record == "all":
        return ("*",)
    return tuple(part.strip() for part in record.split(",") if part.strip())
