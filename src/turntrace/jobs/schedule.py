"""When an evaluator is due: slots of time by interval or by cron (UTC). The time is an argument."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from apscheduler.triggers.cron import CronTrigger

from turntrace.errors import InvalidInput
from turntrace.evaluation.definition import Definition

_SECOND_US: Final = 1_000_000
_LOOKED_BACK: Final = timedelta(hours=25)
_MOST_STEPS: Final = 2000


@lru_cache(maxsize=256)
def cron_trigger(text: str) -> CronTrigger:
    """The trigger of a crontab line of five fields.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return CronTrigger.from_crontab(text, timezone="UTC")
    except ValueError as error:
        raise InvalidInput(f"$.schedule.cron: {error}", field="$.schedule.cron") from None


def latest_slot(definition: Definition, *, after_us: int, now_us: int) -> int | None:
    """The start of the latest slot later than `after_us` and not later than now; None where none has come.

    Slots that were missed are not made up for: the latest stands for all of them.
    """
    if definition.cron is None:
        length_us = (definition.interval_seconds or 1) * _SECOND_US
        slot_us = now_us - now_us % length_us
        return slot_us if slot_us > after_us else None
    return _latest_cron(cron_trigger(definition.cron), after_us, now_us)


def _latest_cron(trigger: CronTrigger, after_us: int, now_us: int) -> int | None:
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
