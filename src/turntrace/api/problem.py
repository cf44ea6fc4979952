"""Errors as problem details (RFC 9457): what is wrong, where, and what to do."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from turntrace.api.answer import render

MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:turntrace:problem:"


class Problem(Exception):
    """An answer that is not a success.

    Args:
        status: HTTP status.
        kind: stable name of the problem, last part of its `type`.
        title: what is wrong, in general.
        detail: where, and what to do.
        headers: extra response headers.
        members: extension members such as `parameter`, `field`, `allowed` or `turn_ids`.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"type": _TYPE + kind, "title": title, "status": status, "detail": detail, **members}

    def response(self) -> Response:
        """The problem as an HTTP response."""
        return Response(render(self.body), self.status, self.headers, MEDIA_TYPE)


def bad_parameter(name: str, detail: str, **members: Any) -> Problem:
    """400 for a query parameter."""
    return Problem(400, "invalid-parameter", "A query parameter is unusable", detail, parameter=name, **members)


def bad_body(field: str, detail: str, **members: Any) -> Problem:
    """400 for the request body; `field` is a JSON path such as `$.value`."""
    return Problem(400, "invalid-body", "The request body is unusable", detail, field=field, **members)


def not_found(what: str, detail: str) -> Problem:
    """404 for a record."""
    return Problem(404, "not-found", f"There is no such {what}", detail)
