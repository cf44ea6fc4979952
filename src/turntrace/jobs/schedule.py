"""When an evaluator is due: slots of time by interval or by cron (UTC). The time is an argument."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from turntrace.errors import InvalidInput
from turntrace.evaluation.definition import Definition

_SECOND_US: Final = 1_000_000
_LOOKED_BACK: Final = timedelta(hours=25)
_MOST_STEPS: Final = 2000
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY: Final = rf"[0-7]|{'|'.join(_WEEKDAYS)}"
_DAYS: Final = re.compile(rf"(?:\*|(?P<first>{_DAY})(?:-(?P<last>{_DAY}))?)(?:/(?P<step>[1-7]))?")


@lru_cache(maxsize=256)
def cron_trigger(text: str) -> BaseTrigger:
    """The trigger of a crontab line of five fields, as POSIX has it: 0 and 7 are Sunday, and where both the day of the
    month and that of the week are stated, either will do.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return _trigger(text)
    except ValueError as error:
        raise InvalidInput(f"$.schedule.cron: {error}", field="$.schedule.cron") from None


def _trigger(text: str) -> BaseTrigger:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"expected 5 fields, got {len(fields)}")
    minute, hour, day, month, weekday = fields
    times = {"minute": minute, "hour": hour, "month": month, "timezone": "UTC"}
    if weekday.startswith("*") or day.startswith("*"):
        return CronTrigger(day=day, day_of_week=_weekdays(weekday), **times)
    either = [CronTrigger(day=day, **times), CronTrigger(day="*", day_of_week=_weekdays(weekday), **times)]
    return OrTrigger(either)


def _weekdays(text: str) -> str:
    """Days of the week by name: the library counts them from Monday, crontabs from Sunday."""
    if text == "*":
        return text
    found: set[int] = set()
    for part in text.lower().split(","):
        days = _DAYS.fullmatch(part)
        if days is None:
            raise ValueError(f"{part[:20]!r} is no day of the week: 0 to 7 (both Sunday), or sun to sat")
        found.update(_range_of(days))
    return ",".join(_WEEKDAYS[day] for day in sorted(found))


def _range_of(days: re.Match[str]) -> list[int]:
    first, last, step = days["first"], days["last"], int(days["step"] or 1)
    start = _number(first) if first else 0
    end = _number(last or first) if last or (first and not days["step"]) else 6
    return [day % 7 for day in range(start, end + 1 if end >= start else end + 8, step)]


def _number(day: str) -> int:
    return int(day) if day.isdigit() else _WEEKDAYS.index(day)


def latest_slot(definition: Definition, *, after_us: int, now_us: int) -> int | None:
    """The start of the latest slot later than `after_us` and not later than now; None where none has come.

    Slots that were missed are not made up for: the latest stands for all of them.
    """
    if definition.cron is None:
        length_us = (definition.interval_seconds or 1) * _SECOND_US
        slot_us = now_us - now_us % length_us
        return slot_us if slot_us > after_us else None
    return _latest_cron(cron_trigger(definition.cron), after_us, now_us)


def _latest_cron(trigger: BaseTrigger, after_us: int, now_us: int) -> int | None:
    now = _moment(now_us)
    for start in (_moment(after_us + 1), max(_moment(after_us + 1), now - _LOOKED_BACK)):
        found, at = None, start
        for _ in range(_MOST_STEPS):
            fires = trigger.get_next_fire_time(None, at)
            if fires is None or fires > now:
                return None if found is None else int(found.timestamp()) * _SECOND_US
            found, at = fires, fires + timedelta(seconds=1)
    return int(found.timestamp()) * _SECOND_US if found is not None else None


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // _SECOND_US, UTC) + timedelta(microseconds=us % _SECOND_US)
