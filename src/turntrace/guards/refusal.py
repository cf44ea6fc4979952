"""What a client is answered when a budget refuses: 429 with the time of renewal, or 503 while it cannot be checked.

The answer names no budget, no limit and no person.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.errors import BudgetExceeded, BudgetUnavailable

MEDIA_TYPE: Final = "application/problem+json"

Answer = tuple[str, int, dict[str, str]]


def answer(error: Exception) -> Answer:
    """Body (RFC 9457), status and headers.

    Raises:
        TypeError: not one of the two errors of budgets.
    """
    if isinstance(error, BudgetExceeded):
        renews = datetime.fromtimestamp(error.renews_at_us / 1_000_000, tz=UTC)
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": "The budget is used up",
            "status": 429,
            "detail": f"There is more from {renews:%Y-%m-%d %H:%M} UTC on.",
            "renews_at": renews.isoformat().replace("+00:00", "Z"),
        }
        wait = error.retry_after_seconds
    elif isinstance(error, BudgetUnavailable):
        problem = {"type": "about:blank", "title": "Budgets cannot be checked", "status": 503}
        wait = error.retry_after_seconds
    else:
        raise TypeError("not an error of budgets")
    headers = {"Retry-After": str(wait), "Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    return json.dumps(problem), int(problem["status"]), headers


async def answer_starlette(request: Request, error: Exception) -> Response:
    """For `app.add_exception_handler` of FastAPI and Starlette."""
    body, status, headers = answer(error)
    return Response(body, status, headers)


def answer_flask(error: Exception) -> Answer:
    """For `app.register_error_handler` of Flask."""
    return answer(error)
