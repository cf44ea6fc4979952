"""RQ: the context travels in the `meta` of a job, and the job is a turn of its own."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import rq

from turntrace.borders import Carrying, text_only

META: Final = "turntrace"
_MARK: Final = "_turntrace"


def attach(tt: Carrying, queue: Any) -> Any:
    """See `Borders.rq`."""
    original = queue.create_job
    if getattr(original, _MARK, None) is tt:
        return queue

    @wraps(original)
    def create_job(*args: Any, **kwargs: Any) -> Any:
        job = original(*args, **kwargs)
        carried = tt.carrier()
        if carried:
            job.meta = {**(job.meta or {}), META: carried}
        return job

    setattr(create_job, _MARK, tt)
    queue.create_job = create_job
    return queue


def job(tt: Carrying, function: Callable[..., Any]) -> Callable[..., Any]:
    """See `Borders.rq_job`."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        current = rq.get_current_job()
        meta = current.meta if current is not None and isinstance(current.meta, dict) else {}
        facts = {"job_id": current.id, "queue": current.origin} if current is not None else {}
        # Outside a worker (a test, a synchronous queue) the turn that is current goes on.
        carried = text_only(meta.get(META)) or tt.carrier()
        with tt.continue_trace(carried, name=function.__qualname__, metadata=facts):
            return function(*args, **kwargs)

    return run
