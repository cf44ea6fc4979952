"""Errors as pages: what went wrong and what to do. Texts of exceptions that are not ours are never shown."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from turntrace.errors import DatabaseUnavailable, InvalidInput, NotFound, SchemaOutOfDate, SchemaTooNew
from turntrace.panel.visit import STATE, Visit

UPGRADE: Final = "turntrace db upgrade"


def _answer(
    request: Request, status: int, title: str, lines: list[str] | None = None, command: str | None = None
) -> Response:
    visit = request.scope.get(STATE)
    if not isinstance(visit, Visit):
        return PlainTextResponse(title, status)
    return visit.render("problem.html", code=status, title=title, lines=lines or [], command=command)


def not_found(request: Request, error: Exception) -> Response:
    """404 for a record, with the sentence of whoever looked for it."""
    return _answer(request, HTTPStatus.NOT_FOUND, "Not found", [str(error)])


def invalid(request: Request, error: Exception) -> Response:
    """400: a filter that cannot be read."""
    return _answer(request, HTTPStatus.BAD_REQUEST, "This address cannot be read", [str(error)])


def unavailable(request: Request, error: Exception) -> Response:
    """503: the database is away. Turns wait in the spool meanwhile."""
    lines = ["The database cannot be reached just now. Turns go on being recorded and wait in the spool."]
    return _answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "The database is not available", lines)


def outdated(request: Request, error: Exception) -> Response:
    """503: the schema is not this release's."""
    lines = [str(error), "Turns go on being recorded and wait in the spool."]
    command = UPGRADE if isinstance(error, SchemaOutOfDate) else None
    return _answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "The database schema does not fit", lines, command)


def http(request: Request, error: Exception) -> Response:
    """404, 405 and the like of the router, 403 of a page."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    titles = {403: "Your role does not allow this", 404: "There is no such page"}
    return _answer(request, status, titles.get(status, HTTPStatus(status).phrase))


def unexpected(request: Request, error: Exception) -> Response:
    """500 of our own making; Starlette raises it on, and the shield around the pages logs it."""
    return _answer(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, "This page failed", ["The error is in the log of the application."]
    )


HANDLERS: Final[Mapping[Any, Callable[[Request, Exception], Response]]] = {
    NotFound: not_found,
    InvalidInput: invalid,
    DatabaseUnavailable: unavailable,
    SchemaOutOfDate: outdated,
    SchemaTooNew: outdated,
    HTTPException: http,
    Exception: unexpected,
}
