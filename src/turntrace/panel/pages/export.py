"""The trace list as a file: exactly what is filtered, read page by page while it is sent."""

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from turntrace.panel.narrowing import narrowing
from turntrace.panel.templating import printable
from turntrace.panel.trail import noted
from turntrace.panel.visit import Visit, visit_of
from turntrace.panel.wording import iso
from turntrace.pipeline.redact.tag import number_tags
from turntrace.records.filter import TraceFilter
from turntrace.records.trace import Trace
from turntrace.records.usage import to_decimal
from turntrace.storage.queries.traces import list_traces

MAX_ROWS: Final = 10_000
_PAGE: Final = 500
COLUMNS: Final = (
    "id", "trace_id", "started_at", "name", "status", "outcome", "session_id", "user_id", "feature", "environment",
    "release", "route", "models", "duration_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd", "error",
    "tags", "input", "output",
)  # fmt: skip
# Spreadsheets run cells that begin so; a leading apostrophe makes them text.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")


def as_csv(request: Request) -> Response:
    """`GET /traces.csv`: RFC 4180, cells that spreadsheets would run are made text."""
    return _file(request, "text/csv; charset=utf-8", "traces.csv", _csv)


def as_jsonl(request: Request) -> Response:
    """`GET /traces.jsonl`: one object a line."""
    return _file(request, "application/x-ndjson", "traces.jsonl", _jsonl)


def _file(request: Request, media_type: str, name: str, written: Any) -> Response:
    visit = visit_of(request)
    if not visit.may_read:
        raise HTTPException(403)
    narrowed = narrowing(request.query_params, now_us=visit.now_us)
    filters = sorted(name for name, _ in narrowed.params)
    visit.context.database.transact(noted, visit, "traces.export", name, filters=filters)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(written(_rows(visit, narrowed.filter)), media_type=media_type, headers=headers)


def _rows(visit: Visit, wanted: TraceFilter) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    for _ in range(MAX_ROWS // _PAGE):
        with visit.context.database.read() as connection:
            page = list_traces(connection, wanted, limit=_PAGE, cursor=cursor)
        for item in page.items:
            yield _row(item, visit.numbering)
        cursor = page.next_cursor
        if cursor is None:
            return


def _row(item: Trace, numbering: dict[str, str]) -> dict[str, Any]:
    cost = to_decimal(item.cost_total_nano)
    values: dict[str, Any] = {name: getattr(item, name, None) for name in COLUMNS}
    return values | {
        "started_at": iso(item.started_at_us),
        "models": list(item.models),
        "tags": list(item.tags),
        "duration_ms": None if item.duration_us is None else item.duration_us / 1000,
        "ttft_ms": None if item.ttft_us is None else item.ttft_us / 1000,
        "input_tokens": item.usage.input_tokens if item.usage else None,
        "output_tokens": item.usage.output_tokens if item.usage else None,
        "cost_usd": None if cost is None else f"{cost:f}",
        "error": item.error.type if item.error else None,
        "input": number_tags(item.input_preview, numbering),
        "output": number_tags(item.output_preview, numbering),
    }


def _jsonl(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield orjson.dumps({key: _clean(value) for key, value in row.items()}) + b"\n"


def _clean(value: Any) -> Any:
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    yield _line(list(COLUMNS))
    for row in rows:
        yield _line([cell(row[name]) for name in COLUMNS])


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def cell(value: Any) -> str:
    """A value as a cell that no spreadsheet runs; numbers stay numbers."""
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return str(value)
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
