"""Spans that another Turntrace sent on (`pipeline/outbound` writes them): the conventions and the rest."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from turntrace import semconv
from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.message import tool_calls
from turntrace.pipeline.convert.usage import MOST_DOLLARS, MOST_TOKENS
from turntrace.pipeline.convert.value import items, json_value, mapping, text, texts
from turntrace.pipeline.draft import Draft
from turntrace.records.fragment import RawSpan
from turntrace.records.observation import LEVELS, OBSERVATION_TYPES, PromptLink
from turntrace.records.usage import NANO, Cost, Usage

# The convention's operation and names say again what the own fields say.
_REPEATED: Final = (
    *(semconv.ERROR_TYPE, semconv.INPUT_MIME_TYPE, semconv.OUTPUT_MIME_TYPE, semconv.USAGE_COST),
    *(semconv.WORKFLOW_NAME, semconv.SESSION_ID, semconv.CONVERSATION_ID),
    *(semconv.OPENINFERENCE_KIND, semconv.LANGFUSE_FIRST_AT, semconv.LANGFUSE_TAGS),
)
_FOUND: Final = ("returned", "score_min", "score_max")
_MOST_NANO: Final = int(MOST_DOLLARS * NANO)


def is_relayed(attributes: Mapping[str, Any]) -> bool:
    """Whether a span with these attributes was sent on by a Turntrace."""
    return semconv.OWN_TYPE in attributes or semconv.TURN_ID in attributes


def is_own(span: RawSpan, names: str) -> bool:
    """Whether the span is that of a turn or an observation of another Turntrace."""
    return is_relayed(span.attributes)


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft: by the conventions first, then with what stands under our own names."""
    was_a_turn = semconv.TURN_ID in bag
    asked = {"data_source": bag.peek(semconv.DATA_SOURCE_ID), "top_k": bag.peek(semconv.RETRIEVAL_TOP_K)}
    otelgenai.read(bag, draft)
    _values(bag, draft)
    bag.take(*_REPEATED)
    own = bag.under(semconv.OWN_PREFIX)
    facts = {name.removeprefix("retrieval."): own.pop(name) for name in list(own) if name.startswith("retrieval.")}
    if facts or any(value is not None for value in asked.values()):
        draft.retrieval = {**asked, **dict.fromkeys(_FOUND), **facts}
    for name, value in own.items():
        reader = _READERS.get(name)
        if reader is not None:
            reader(draft, value)
    if was_a_turn:
        _turn(bag, draft)


def _values(bag: Bag, draft: Draft) -> None:
    for name, attribute, mime_type in (
        ("input", semconv.INPUT_VALUE, bag.peek(semconv.INPUT_MIME_TYPE)),
        ("output", semconv.OUTPUT_VALUE, bag.peek(semconv.OUTPUT_MIME_TYPE)),
    ):
        if attribute in bag.rest:
            value = bag.rest.pop(attribute)
            setattr(draft, name, json_value(value) if mime_type == "application/json" else value)


def _turn(bag: Bag, draft: Draft) -> None:
    """A turn below another one of the same trace: a step of it."""
    told = bag.under(semconv.TURN_PREFIX)
    draft.type = "span"
    draft.name = text(told.get("name")) or draft.name
    draft.tags = texts(told.get("tags"))
    draft.metadata = {**draft.metadata, **mapping(told.get("metadata"))}


def _type(draft: Draft, value: Any) -> None:
    if value in OBSERVATION_TYPES:
        draft.type = value


def _name(draft: Draft, value: Any) -> None:
    draft.name = text(value) or draft.name


def _level(draft: Draft, value: Any) -> None:
    if value in LEVELS:
        draft.level = value


def _model_requested(draft: Draft, value: Any) -> None:
    if value == "":
        draft.model_requested = None


def _is_open(draft: Draft, value: Any) -> None:
    if value is True:
        draft.duration_us = None


def _metadata(draft: Draft, value: Any) -> None:
    draft.metadata = {**draft.metadata, **mapping(value)}


def _prompt(draft: Draft, value: Any) -> None:
    """A prompt version without a name, which the conventions have no form for."""
    stated = mapping(value)
    version, variables = stated.get("version"), mapping(stated.get("variables"))
    known = version if isinstance(version, (int, str)) else None
    draft.prompt = PromptLink(name="", version=known, label=text(stated.get("label")), variables=variables)


def _prompt_label(draft: Draft, value: Any) -> None:
    if draft.prompt is not None:
        draft.prompt = _changed(draft.prompt, label=text(value))


def _changed(record: Any, **changes: Any) -> Any:
    kind = type(record)
    return kind(**{**{name: getattr(record, name) for name in kind.__dataclass_fields__}, **changes})


def _usage_details(draft: Draft, value: Any) -> None:
    stated = mapping(value).items()
    counts = {name: count for name, count in stated if type(count) is int and 0 <= count <= MOST_TOKENS}
    draft.usage = _changed(draft.usage or Usage(), details=counts)


def _cache_write_1h(draft: Draft, value: Any) -> None:
    if type(value) is int and draft.usage is not None and value <= (draft.usage.cache_write_tokens or 0):
        draft.usage = _changed(draft.usage, cache_write_1h_tokens=value)


def _estimated(draft: Draft, value: Any) -> None:
    if value is True and draft.usage is not None:
        draft.usage = _changed(draft.usage, is_estimated=True)


def _cost(draft: Draft, value: Any) -> None:
    """The cost as it was computed there, to the nano-dollar; another price table would tell another story."""
    stated = mapping(value)
    amounts = [stated.get(name) for name in ("input_nano", "output_nano", "total_nano")]
    if not all(amount is None or _is_amount(amount) for amount in amounts) or amounts[2] is None:
        draft.flag("cost_invalid")
        return
    draft.cost = Cost(
        input_nano=amounts[0],
        output_nano=amounts[1],
        total_nano=amounts[2],
        source="provider",
        price_version=(text(stated.get("price_version")) or "provider")[:100],
        tier=(text(stated.get("tier")) or "")[:40],
    )


def _is_amount(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_NANO


def _parameters(draft: Draft, value: Any) -> None:
    draft.parameters = mapping(value)


def _tool_definitions(draft: Draft, value: Any) -> None:
    draft.tool_definitions = tuple(items(value))


def _tool_calls(draft: Draft, value: Any) -> None:
    draft.tool_calls = tuple(tool_calls(value))


def _input_documents(draft: Draft, value: Any) -> None:
    draft.input_documents = tuple(entry for entry in items(value) if isinstance(entry, dict))


_READERS: Final[Mapping[str, Callable[[Draft, Any], None]]] = {
    "type": _type,
    "name": _name,
    "level": _level,
    "status_message": lambda draft, value: setattr(draft, "status_message", text(value)),
    "model_requested": _model_requested,
    "is_open": _is_open,
    "tags": lambda draft, value: setattr(draft, "tags", texts(value)),
    "metadata": _metadata,
    "prompt": _prompt,
    "prompt_label": _prompt_label,
    "usage_details": _usage_details,
    "cache_write_1h_tokens": _cache_write_1h,
    "is_usage_estimated": _estimated,
    "cost": _cost,
    "parameters": _parameters,
    "tool_calls": _tool_calls,
    "tool_definitions": _tool_definitions,
    "input_documents": _input_documents,
}
