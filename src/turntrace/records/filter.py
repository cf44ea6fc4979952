"""What lists can be narrowed by, and the pages they answer with."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

T = TypeVar("T")


class Except(str):
    """A filter's value that stands for every other one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFilter:
    """Filters of the trace and observation lists; None does not filter. Times: `from_us` ≤ start < `to_us`."""

    from_us: int | None = None
    to_us: int | None = None
    session_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    experiment: str | None = None
    environment: str | None = None  # `Except` takes all others
    release: str | None = None
    route: str | None = None
    model: str | None = None
    provider: str | None = None
    type: str | None = None  # an observation of this type
    status: str | None = None  # ok, error, or an outcome
    min_cost: Decimal | None = None  # US dollars
    min_duration_ms: float | None = None
    score: str | None = None  # "name", "name=value", "name<0.5", "name>0.5"
    tag: str | None = None
    prompt: str | None = None  # "name" or "name@version"
    step: str | None = None  # an observation of this type and name, "type:name"
    name: str | None = None
    q: str | None = None  # words in previews, name, ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a keyset-paginated list; `next_cursor` is None on the last."""

    items: tuple[T, ...]
    next_cursor: str | None = None
