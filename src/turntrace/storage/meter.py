"""How much the database holds, how fast it grows, and when it reaches its limit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, text

from turntrace.storage import switches, tables

NAME: Final = "storage_samples"  # setting: JSON array of [µs, bytes], the oldest first
EVERY_US: Final = 3 * 3600 * 1_000_000
MOST_SAMPLES: Final = 240  # a month of them
DAY_US: Final = 86_400 * 1_000_000
LEAST_US: Final = DAY_US // 2  # of samples that a forecast needs
FULL_SHARE: Final = 0.9  # of the limit: from here on texts are not stored (`worker.capacity`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What the storage panel shows. `growth_bytes_a_day` is None until there are samples of half a day."""

    used_bytes: int | None
    limit_bytes: int
    samples: tuple[tuple[int, int], ...] = ()
    growth_bytes_a_day: int | None = None

    @property
    def share(self) -> float | None:
        """Of the limit that is used, 0..1 and more."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes and self.used_bytes is not None else None

    @property
    def full_in_days(self) -> float | None:
        """Days until the limit is reached at this pace."""
        if not self.limit_bytes or self.used_bytes is None or not self.growth_bytes_a_day:
            return None
        if self.growth_bytes_a_day <= 0:
            return None
        return max(0.0, (self.limit_bytes - self.used_bytes) / self.growth_bytes_a_day)

    def in_days(self, days: int) -> int | None:
        """Bytes used then, at this pace."""
        if self.used_bytes is None or self.growth_bytes_a_day is None:
            return None
        return max(0, self.used_bytes + days * self.growth_bytes_a_day)


def read(connection: Connection, *, limit_bytes: int = 0) -> Meter:
    """The meter, as it stands now."""
    samples = _samples(connection)
    return Meter(
        used_bytes=used_bytes(connection),
        limit_bytes=limit_bytes,
        samples=tuple(samples),
        growth_bytes_a_day=growth(samples),
    )


def note(connection: Connection, *, now_us: int) -> None:
    """Keep a sample, every few hours."""
    samples = _samples(connection)
    if samples and now_us - samples[-1][0] < EVERY_US:
        return
    used = used_bytes(connection)
    if used is not None:
        kept = [*samples, (now_us, used)][-MOST_SAMPLES:]
        switches.put(connection, NAME, json.dumps(kept), now_us=now_us)


def _samples(connection: Connection) -> list[tuple[int, int]]:
    found = switches.get(connection, NAME)
    return [(int(at_us), int(size)) for at_us, size in json.loads(found)] if found else []


def growth(samples: Sequence[tuple[int, int]]) -> int | None:
    """Bytes a day: the slope of a straight line through the samples (least squares)."""
    if len(samples) < 2 or samples[-1][0] - samples[0][0] < LEAST_US:
        return None
    days = [(at_us - samples[0][0]) / DAY_US for at_us, _ in samples]
    sizes = [float(size) for _, size in samples]
    day, size = sum(days) / len(days), sum(sizes) / len(sizes)
    spread = sum((x - day) ** 2 for x in days)
    return round(sum((x - day) * (y - size) for x, y in zip(days, sizes, strict=True)) / spread)


def used_bytes(connection: Connection) -> int | None:
    """Bytes that rows and indexes of ours take; pages of SQLite that are free do not count (its file is ours alone,
    or the host's too)."""
    name = connection.dialect.name
    if name == "sqlite":
        pages, free, size = (
            int(connection.execute(text(f"PRAGMA {what}")).scalar_one())
            for what in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size
    statement = _POSTGRESQL if name == "postgresql" else _MARIADB
    found = connection.execute(statement, {"names": sorted(tables.metadata.tables)}).scalar()
    return None if found is None else int(found)


_POSTGRESQL: Final = text(
    "SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(CAST(:names AS text[])) AS name"
)
_MARIADB: Final = text(
    "SELECT sum(data_length + index_length) FROM information_schema.tables "
    "WHERE table_schema = database() AND table_name IN :names"
).bindparams(bindparam("names", expanding=True))
