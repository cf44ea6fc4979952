"""One trace: its waterfall beside the selected observation, its facts and scores."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from turntrace.errors import NotFound
from turntrace.panel.distributed import distributed
from turntrace.panel.streaming import per_token_us, streaming
from turntrace.panel.visit import Visit, visit_of
from turntrace.panel.waterfall import waterfall
from turntrace.records.observation import Observation
from turntrace.records.score import DATA_TYPES
from turntrace.records.trace import Trace
from turntrace.records.usage import Usage
from turntrace.storage import comments
from turntrace.storage.comments import Comment
from turntrace.storage.queries.traces import find_traces, turn_ids

USAGE_LABELS: Final = {
    "input_tokens": "Input",
    "cache_read_tokens": "of input, read from cache",
    "cache_write_tokens": "of input, written to cache",
    "cache_write_1h_tokens": "of input, written to cache for an hour",
    "input_audio_tokens": "of input, audio",
    "output_tokens": "Output",
    "reasoning_tokens": "of output, reasoning",
    "output_audio_tokens": "of output, audio",
}
# What the waterfall selects when the address does not say: the first step that failed, else the first model call.
_TELLING: Final = ("generation", "agent", "tool", "retrieval", "chain")


def trace(request: Request) -> Response:
    """`GET /traces/{trace_id}`: by the turn's id, or by a W3C id (several turns on one page)."""
    visit = visit_of(request)
    any_id = request.path_params["trace_id"]
    with visit.context.database.read() as connection:
        found = find_traces(connection, any_id)
        remarks = comments.of_turn(connection, found[0].id) if len(found) == 1 and visit.may_read else []
        together = len(turn_ids(connection, found[0].trace_id)) if found else 0
    if not found:
        raise NotFound("No trace has this id. It may have been erased, left out by sampling, or is still in the spool.")
    if len(found) > 1:
        return _together(visit, any_id, found)
    if found[0].id != any_id:
        return RedirectResponse(visit.address.to("traces", found[0].id), status_code=HTTPStatus.SEE_OTHER)
    return _page(visit, found[0], together, remarks)


def _together(visit: Visit, trace_id: str, turns: Sequence[Trace]) -> Response:
    """All turns of a W3C trace on one page, each below the step that called it."""
    whole = distributed(trace_id, turns, now_us=visit.now_us)
    return visit.render("same_trace_id.html", section="traces", title=whole.name, whole=whole, rows=turns)


def _page(visit: Visit, turn: Trace, together: int, remarks: Sequence[Comment]) -> Response:
    chosen = visit.request.query_params.get("observation")
    drawing = waterfall(turn, now_us=visit.now_us)
    selected = None if chosen == "turn" else _selected(chosen, [row.observation for row in drawing.rows])
    return visit.render(
        "trace.html",
        section="traces",
        title=turn.name or "Trace",
        trace=turn,
        drawing=drawing,
        together=together,
        stream=streaming(turn),
        per_token=per_token_us,
        selected=selected,
        usage_rows=usage_rows(selected.usage if selected else turn.usage),
        target=selected.id if selected else turn.id,
        scores=_scores_of(turn, selected),
        comments=[item for item in remarks if item.span_id == (selected.span_id if selected else None)],
        data_types=DATA_TYPES,
    )


def _selected(chosen: str | None, observations: Sequence[Observation]) -> Observation | None:
    if chosen:
        return next((item for item in observations if chosen in (item.span_id, item.id)), None)
    failed = next((item for item in reversed(observations) if item.status == "error"), None)
    if failed is not None:
        return failed
    for kind in _TELLING:
        found = next((item for item in reversed(observations) if item.type == kind), None)
        if found is not None:
            return found
    return observations[0] if observations else None


def _scores_of(turn: Trace, selected: Observation | None) -> tuple[object, ...]:
    wanted = selected.span_id if selected else None
    return tuple(score for score in turn.scores if score.span_id == wanted)


def usage_rows(usage: Usage | None) -> tuple[tuple[str, int], ...]:
    """Labels and numbers of the token counts that are stated."""
    if usage is None:
        return ()
    stated = ((label, getattr(usage, name)) for name, label in USAGE_LABELS.items())
    return tuple((label, number) for label, number in stated if number is not None)
