"""`/scores`: feedback comes in here, and is read again."""

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from anyio import CapacityLimiter, WouldBlock, sleep
from anyio.lowlevel import RunVar
from sqlalchemy import Connection

from turntrace.api import parameter, shape
from turntrace.api.components import page
from turntrace.api.endpoint import Answer, Call, Endpoint
from turntrace.api.filters import PERIOD
from turntrace.api.parameter import paging
from turntrace.api.problem import Problem, bad_body, not_found
from turntrace.api.schema import Schema, record, reference, text
from turntrace.errors import InvalidInput
from turntrace.records.score import DATA_TYPES, SCORE_SOURCES, Score
from turntrace.storage import scores as writes
from turntrace.storage.queries import scores, targets
from turntrace.storage.queries.scores import ScoreFilter
from turntrace.storage.queries.targets import Target

# A front end may be faster than the worker: the turn it was just answered is waited for this long.
WAIT_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.1
MOST_WAITING: Final = 64

_TARGETS: Final = ("trace_id", "observation_id", "session_id", "request_id", "dataset_item_id", "run_item_id")
_FORMS: Final = {"trace_id": re.compile(r"[0-9a-f]{32}\Z"), "observation_id": re.compile(r"[0-9a-f]{48}\Z")}
_FIND: Final[Mapping[str, Callable[[Connection, str], tuple[Target, ...]]]] = {
    "trace_id": targets.of_trace,
    "observation_id": targets.of_observation,
    "session_id": targets.of_session,
    "request_id": targets.of_request,
    "dataset_item_id": targets.of_dataset_item,
    "run_item_id": targets.of_run_item,
}
_LONGEST: Final = {"categorical": 200, "text": 10_000, "correction": 100_000}
_NANOSECONDS_A_MICROSECOND: Final = 1000

BODY: Final[Schema] = record(
    {
        "id": text("the score to replace, or a new id of your own", pattern=r"^[A-Za-z0-9._:~-]{1,64}$"),
        "name": text("what is judged", minLength=1, maxLength=100),
        "value": {
            "type": ["number", "boolean", "string"],
            "description": "by data type: number; true or false; text of at most "
            + ", ".join(f"{length:,} ({name})" for name, length in _LONGEST.items()),
        },
        "data_type": text("by default from the value: a text is categorical", enum=list(DATA_TYPES)),
        "comment": text("redacted before it is stored", maxLength=10_000),
        "source": text("of keys with `write`; those with `feedback` write `user`", enum=["api", "user", "human"]),
        "trace_id": text("`id` or W3C trace id"),
        "observation_id": text("`id` of the observation"),
        "session_id": text("id of the session", minLength=1, maxLength=500),
        "request_id": text(
            "the host's own id of the request, as `update_trace(request_id=…)` said it", minLength=1, maxLength=255
        ),
        "dataset_item_id": text("id of the dataset item", minLength=1, maxLength=32),
        "run_item_id": text("id of what a run made of an item", minLength=1, maxLength=32),
    },
    required=("name", "value"),
    description=f"Exactly one of {', '.join(_TARGETS)}; keys with `feedback` only give trace_id",
)


async def _list(call: Call) -> Answer:
    limit, cursor = call.page
    names = {"from": "from_us", "to": "to_us", "limit": None, "cursor": None}
    values = {names.get(name, name): value for name, value in call.values.items()}
    found = await call.read(
        scores.list_scores,
        ScoreFilter(**{name: value for name, value in values.items() if name is not None}),
        limit=limit,
        cursor=cursor,
    )
    return Answer({"data": [shape.score_of(score) for score in found.items], "next_cursor": found.next_cursor})


async def _put(call: Call) -> Answer:
    body = await call.body()
    kind, any_id = _target_of(body)
    data_type = _data_type(body)
    if _is_feedback(call):
        _check_feedback(body, kind)
    target = await _wait_for(call, kind, any_id)
    score = await call.run(_to_score, call, body, data_type, target)
    stored = await call.run(call.context.database.transact, _store, score, _is_feedback(call))
    return Answer(shape.score_of(_shown(call, stored.score)), 201 if stored.is_new else 200)


def _shown(call: Call, score: Score) -> Score:
    """What the key is told of the score: whose turn it is only if it may read. Trace ids travel far."""
    if call.principal is not None and call.principal.may("read"):
        return score
    return replace(score, user_id=None)


def _target_of(body: Mapping[str, Any]) -> tuple[str, str]:
    given = [name for name in _TARGETS if name in body]
    if len(given) != 1:
        raise bad_body("$", f"Give exactly one of {', '.join(_TARGETS)}; given: {', '.join(given) or 'none'}.")
    kind = given[0]
    form = _FORMS.get(kind)
    any_id: str = body[kind].lower() if form else body[kind]
    if form and not form.match(any_id):
        length = 32 if kind == "trace_id" else 48
        raise bad_body(f"$.{kind}", f"`{kind}` is {length} hex digits.")
    return kind, any_id


def _data_type(body: Mapping[str, Any]) -> str:
    """The stated or guessed data type, after checking the value against it."""
    value = body["value"]
    data_type: str = body.get("data_type") or _guessed(value)
    if data_type == "boolean":
        is_fit, wanted = isinstance(value, bool), "true or false"
    elif data_type == "numeric":
        is_fit, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a finite number"
    else:
        is_fit, wanted = isinstance(value, str), "a text"
    if not is_fit:
        raise bad_body("$.value", f"A {data_type} score takes {wanted} as its value.")
    if isinstance(value, str) and len(value) > _LONGEST[data_type]:
        raise bad_body("$.value", f"A {data_type} value has at most {_LONGEST[data_type]:,} characters.")
    return data_type


def _guessed(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "categorical" if isinstance(value, str) else "numeric"


def _is_feedback(call: Call) -> bool:
    """Keys for front ends are public: what they may do is narrow."""
    return call.principal is not None and not call.principal.may("write")


def _check_feedback(body: Mapping[str, Any], kind: str) -> None:
    if kind != "trace_id":
        raise Problem(
            403, "scope", "The key may not do this", "A key with the scope `feedback` scores a `trace_id` only."
        )
    if body.get("source", "user") != "user":
        raise Problem(403, "scope", "The key may not do this", "Leave `source` out: scores of this key are `user`.")


async def _wait_for(call: Call, kind: str, any_id: str) -> Target:
    """The one target of this id; a turn that is still on its way is waited for a moment.

    Raises:
        Problem: 404 or 409.
    """
    found: tuple[Target, ...] = await call.read(_FIND[kind], any_id)
    if not found:
        found = await _poll(call, kind, any_id)
    if not found:
        raise not_found(kind.removesuffix("_id"), f"No turn with this `{kind}` arrived within {WAIT_SECONDS:.0f} s.")
    if len(found) > 1:
        turn_ids = [target.turn_id for target in found]
        detail = "Several turns share this W3C trace id: send one of `turn_ids` as `trace_id`."
        raise Problem(409, "ambiguous", "The trace id is ambiguous", detail, turn_ids=turn_ids)
    return found[0]


_waiting: RunVar[CapacityLimiter] = RunVar("turntrace.api.waiting")


async def _poll(call: Call, kind: str, any_id: str) -> tuple[Target, ...]:
    """Ask again until it is there or the time is over. Few may wait at once: unknown ids cost nothing to make up."""
    places = _waiting.get(None)
    if places is None:
        places = CapacityLimiter(MOST_WAITING)
        _waiting.set(places)
    borrower = object()
    try:
        places.acquire_on_behalf_of_nowait(borrower)
    except WouldBlock:
        return ()
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            await sleep(PAUSE_SECONDS)
            found = await call.read(_FIND[kind], any_id)
            if found:
                return found
        return ()
    finally:
        places.release_on_behalf_of(borrower)


def _to_score(call: Call, body: Mapping[str, Any], data_type: str, target: Target) -> Score:
    redact = call.context.redact_text
    value, comment = body["value"], body.get("comment")
    principal = call.principal
    return Score(
        id=body.get("id") or secrets.token_hex(16),
        name=body["name"],
        value=redact(value) if data_type in ("text", "correction") else value,
        data_type=data_type,
        source="user" if _is_feedback(call) else body.get("source", "api"),
        turn_id=target.turn_id,
        span_id=target.span_id,
        session_id=target.session_id,
        dataset_item_id=target.dataset_item_id,
        run_item_id=target.run_item_id,
        user_id=target.user_id,
        comment=redact(comment) if comment else None,
        author=principal.name if principal else None,
    )


def _store(c: Connection, score: Score, is_feedback: bool) -> writes.Upserted:
    """Store or replace; a public key replaces only what such a key wrote about the same turn."""
    if is_feedback:
        known = scores.get_score(c, score.id)
        if known is not None and (known.source, known.turn_id) != ("user", score.turn_id):
            detail = "A score with this `id` belongs to somebody else: leave `id` out, or make one of your own."
            raise Problem(409, "id-taken", "The id is taken", detail, field="$.id")
    try:
        return writes.upsert(c, score, now_us=time.time_ns() // _NANOSECONDS_A_MICROSECOND)
    except InvalidInput as error:
        raise bad_body(f"$.{error.field}" if error.field else "$", f"{error}.") from None


_FILTERS: Final = (
    parameter.text("trace_id", "scores of this turn (`id` or W3C trace id) and of its observations"),
    parameter.text("observation_id", "scores of this observation"),
    parameter.text("session_id", "scores of the session itself"),
    parameter.text("name", "exact name"),
    parameter.choice("source", "who scored", SCORE_SOURCES),
    *PERIOD,
)

ENDPOINTS: Final[Sequence[Endpoint]] = (
    Endpoint(
        method="GET",
        path="/scores",
        name="listScores",
        summary="Scores, newest first",
        handle=_list,
        parameters=(*_FILTERS, *paging()),
        answers={200: ("a page of scores", page("Score"))},
    ),
    Endpoint(
        method="POST",
        path="/scores",
        name="putScore",
        summary="Score a trace, an observation or a session; a known `id` is replaced",
        handle=_put,
        scopes=("write", "feedback"),
        body=BODY,
        has_cors=True,
        answers={200: ("replaced", reference("Score")), 201: ("stored", reference("Score"))},
    ),
)
