"""Second descriptions of one model call: a provider SDK's own span, and Logfire's second span of a stream."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from turntrace.pipeline.assemble import Tree
from turntrace.pipeline.convert.value import mapping
from turntrace.pipeline.draft import MODEL_CALLS, Draft
from turntrace.records.fragment import RawSpan

# Clients that trace themselves, and our own tracing of a client: whoever describes the call from above knows more.
_SDK_SCOPES: Final = ("com.anthropic.sdk.", "turntrace.openai")
_STREAMED: Final = "streaming response from"
# A trace of ten thousand spans is compared in its neighbourhoods, not everything with everything.
_MOST_NEAR: Final = 64


def drop_duplicates(tree: Tree, drafts: list[Draft]) -> set[str]:
    """Ids of spans that describe a call already there; what the survivor lacks is copied to it."""
    dropped: set[str] = set()
    sdk_spans = [draft for draft in drafts if _is_sdk_span(draft)]
    if sdk_spans:
        near = _Neighbours(tree, drafts)
        found = [(draft, _survivor(near, draft)) for draft in sdk_spans]
        claims = Counter(id(survivor) for _, survivor in found)
        for draft, survivor in found:
            # Two calls inside one described by hand are two: only the same response id makes them one.
            if survivor is not None and (claims[id(survivor)] == 1 or _have_one_id(survivor, draft)):
                _complete(survivor, draft)
                dropped.add(draft.span.span_id)
    return dropped | _merge_streams(drafts)


def _survivor(near: "_Neighbours", draft: Draft) -> Draft | None:
    """The description of the same call that stays; none for an error that only this one tells of."""
    found = next((other for other in near.of(draft) if _is_same_call(other, draft)), None)
    return None if found is None or (draft.status == "error" and found.status != "error") else found


def _is_sdk_span(draft: Draft) -> bool:
    return (draft.span.scope or "").startswith(_SDK_SCOPES) and draft.type in MODEL_CALLS


class _Neighbours:
    """Model calls of other scopes that may describe the same call: the nearest ones, not all."""

    def __init__(self, tree: Tree, drafts: list[Draft]) -> None:
        self._tree = tree
        calls = [draft for draft in drafts if draft.type in MODEL_CALLS and not _is_sdk_span(draft)]
        self._calls = {draft.span.span_id: draft for draft in calls}
        self._siblings: dict[str | None, list[Draft]] = {}
        self._by_response: dict[str, list[Draft]] = {}
        self._by_model: dict[str, list[Draft]] = {}
        for draft in sorted(calls, key=_start):
            self._siblings.setdefault(tree.parents.get(draft.span.span_id), []).append(draft)
            for model in {draft.model, draft.model_requested} - {None}:
                self._by_model.setdefault(str(model), []).append(draft)
            response_id = _response_id(draft)
            if response_id is not None:
                self._by_response.setdefault(response_id, []).append(draft)

    def of(self, draft: Draft) -> Iterator[Draft]:
        """Those with the same response id, ancestors from the nearest up, siblings; for our own tracing of a client
        also those around it in time: callbacks of frameworks describe calls that they are not the parents of."""
        yield from self._by_response.get(_response_id(draft) or "", ())
        for span_id in islice(self._tree.ancestors(draft.span.span_id), _MOST_NEAR):
            if span_id in self._calls:
                yield self._calls[span_id]
        yield from islice(self._siblings.get(self._tree.parents.get(draft.span.span_id), ()), _MOST_NEAR)
        if draft.span.own is not None:
            yield from self._around(draft)

    def _around(self, draft: Draft) -> Iterator[Draft]:
        """Calls of the same model that began before it, the last one first: of two around it the tighter one."""
        known = self._by_model.get(draft.model_requested or "", [])
        before = bisect_right(known, draft.started_at_us, key=_start)
        for other in known[max(0, before - _MOST_NEAR) : before][::-1]:
            if _contains(other.span, draft.span) and (None in (other.usage, draft.usage) or other.usage == draft.usage):
                yield other


def _start(draft: Draft) -> int:
    return draft.started_at_us


def _have_one_id(one: Draft, other: Draft) -> bool:
    found = _response_id(one)
    return found is not None and found == _response_id(other)


def _is_same_call(one: Draft, other: Draft) -> bool:
    if _response_id(one) and _response_id(other):
        return _have_one_id(one, other)
    models = {one.model, one.model_requested} & {other.model, other.model_requested} - {None}
    if not models:
        return False
    return _contains(one.span, other.span) or _contains(other.span, one.span) or _is_late_stream(one, other)


def _is_late_stream(one: Draft, other: Draft) -> bool:
    """A generator's span can be over before the call is made that it describes: then the answer is the same, and only
    our own tracing of the client knows its usage."""
    is_ours = other.span.own is not None and one.usage is None and one.parameters.get("stream") in (None, True)
    return is_ours and one.started_at_us <= other.started_at_us and bool(_said(one)) and _said(one) == _said(other)


def _said(draft: Draft) -> str:
    """The text of an answer, whatever its shape."""
    if isinstance(draft.output, str):
        return draft.output
    parts = draft.output if isinstance(draft.output, list) else []
    return "".join(str(part.get("content") or "") for part in parts if isinstance(part, dict))


def _response_id(draft: Draft) -> str | None:
    return draft.response_id or _stated_id(mapping(draft.span.attributes.get("output.value")))


def _stated_id(output: Mapping[str, Any]) -> str | None:
    """The id in a recorded answer: the provider's own, or the one that langchain put it into."""
    found = output.get("id")
    try:
        if found is None and "generations" in output:
            found = output["generations"][0][0]["message"]["kwargs"]["response_metadata"]["id"]
    except (KeyError, IndexError, TypeError):  # of another version's shape
        return None
    return found if isinstance(found, str) and found else None


def _contains(outer: RawSpan, inner: RawSpan) -> bool:
    if outer.duration_us is None or inner.duration_us is None:
        return False
    end = outer.started_at_us + outer.duration_us
    return outer.started_at_us <= inner.started_at_us and inner.started_at_us + inner.duration_us <= end


_COPIED: Final = (
    *("ttft_us", "response_id", "service_tier", "model", "model_requested", "provider", "usage", "cost"),
    *("input", "output", "session_id", "user_id", "prompt"),
)


def _complete(survivor: Draft, duplicate: Draft) -> None:
    for name in _COPIED:
        if getattr(survivor, name) is None:
            setattr(survivor, name, getattr(duplicate, name))
    for name in ("finish_reasons", "tool_calls", "tool_definitions"):
        if not getattr(survivor, name):
            setattr(survivor, name, getattr(duplicate, name))
    if duplicate.span.own is not None:  # our own tracing of the client: nothing in it is noise
        survivor.metadata = {**duplicate.metadata, **survivor.metadata}
        survivor.parameters = {**duplicate.parameters, **survivor.parameters}
    status: Any = duplicate.metadata.get("http.response.status_code")
    if status is not None:
        survivor.metadata = {**survivor.metadata, "http.response.status_code": status}


def _merge_streams(drafts: list[Draft]) -> set[str]:
    """Logfire: a request span without output, and a later one of zero length that holds the answer."""
    if not any(_is_stream_answer(draft) for draft in drafts):
        return set()
    waiting: dict[str | None, list[Draft]] = {}
    dropped: set[str] = set()
    for draft in drafts:
        if draft.type not in MODEL_CALLS:
            continue
        requests = waiting.setdefault(draft.model_requested, [])
        if not _is_stream_answer(draft):
            if draft.output is None:
                requests.append(draft)
            continue
        request = next((item for item in requests[: -_MOST_NEAR - 1 : -1] if item.input == draft.input), None)
        if request is not None:
            requests.remove(request)
            _take_answer(request, draft)
            dropped.add(draft.span.span_id)
    return dropped


def _take_answer(request: Draft, answer: Draft) -> None:
    for name in ("output", "usage", "cost", "finish_reasons", "tool_calls", "response_id", "model"):
        if getattr(answer, name):
            setattr(request, name, getattr(answer, name))
    request.duration_us = max(0, answer.started_at_us + (answer.duration_us or 0) - request.started_at_us)


def _is_stream_answer(draft: Draft) -> bool:
    template = draft.span.attributes.get("logfire.msg_template")
    is_log = draft.span.attributes.get("logfire.span_type") == "log"
    return is_log and isinstance(template, str) and template.startswith(_STREAMED)
