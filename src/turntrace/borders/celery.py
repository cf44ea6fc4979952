"""Celery: the context travels in the headers of a task's message, and the task is a turn of its own.

Signals only, so that it works with every pool and broker, and with chains and retries: a task that sends another one
passes its own turn on.
"""

from collections.abc import Mapping
from typing import Any, Final

from celery import signals

from turntrace.borders import Carrying, text_only

HEADER: Final = "turntrace"
_MARK: Final = "_turntrace_border"


class _Tasks:
    """The tasks of one application that run in this process."""

    def __init__(self, tt: Carrying) -> None:
        self._tt = tt
        self._open: dict[str, Any] = {}

    def publish(self, headers: Any = None, **_: Any) -> None:
        """Before a message is sent."""
        carried = self._tt.carrier()
        if carried and isinstance(headers, dict):
            headers[HEADER] = carried

    def begin(self, task_id: str, task: Any, **_: Any) -> None:
        """Before a task runs."""
        carried = _carried(task.request) or self._tt.carrier()  # eager tasks have no message
        scope = self._tt.continue_trace(carried, name=task.name, metadata=_facts(task))
        scope.__enter__()
        self._open[task_id] = scope

    def end(self, task_id: str, retval: Any = None, state: str | None = None, **_: Any) -> None:
        """After a task has run, however it went."""
        scope = self._open.pop(task_id, None)
        if scope is None:
            return
        error = retval if state == "FAILURE" and isinstance(retval, BaseException) else None
        scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _carried(request: Any) -> dict[str, str]:
    """The context in a message: Celery puts headers beside its own fields, or in `headers`."""
    found = getattr(request, HEADER, None)
    if not isinstance(found, Mapping):
        headers = getattr(request, "headers", None)
        found = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return text_only(found)


def _facts(task: Any) -> dict[str, Any]:
    request = task.request
    return {
        "task_id": request.id,
        "queue": (request.delivery_info or {}).get("routing_key"),
        "retries": request.retries,
    }


def attach(tt: Carrying, app: Any) -> Any:
    """See `Borders.celery`."""
    if getattr(app, _MARK, None) is not None:
        return app
    tasks = _Tasks(tt)
    setattr(app, _MARK, tasks)  # signals hold their receivers weakly

    def is_ours(task: Any) -> bool:
        return task.app is app or task.app.main == app.main

    def publish(sender: Any = None, headers: Any = None, **more: Any) -> None:
        tasks.publish(headers=headers)

    def begin(task_id: str, task: Any, **more: Any) -> None:
        if is_ours(task):
            tasks.begin(task_id, task)

    def end(task_id: str, task: Any, retval: Any = None, state: str | None = None, **more: Any) -> None:
        tasks.end(task_id, retval, state)

    signals.before_task_publish.connect(publish, weak=False)
    signals.task_prerun.connect(begin, weak=False)
    signals.task_postrun.connect(end, weak=False)
    return app
