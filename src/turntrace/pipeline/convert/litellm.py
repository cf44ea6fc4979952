"""LiteLLM's own OpenTelemetry callback: names of its functions as operations, costs, usage in a printed dictionary."""

import ast
from typing import Any, Final

import orjson

from turntrace.pipeline.convert import openllmetry
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.message import tool_call
from turntrace.pipeline.convert.usage import from_object, set_cost, set_usage
from turntrace.pipeline.convert.value import text
from turntrace.pipeline.convert.vocabulary import OPERATIONS, provider
from turntrace.pipeline.draft import Draft

SCOPE: Final = "litellm"
_OPERATIONS: Final = {
    **OPERATIONS,
    "embedding": "embedding",
    "image_generation": "generation",
    "transcription": "generation",
    "speech": "generation",
}
_MOST_PRINTED: Final = 8_000


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft: first what is LiteLLM's alone, then the conventions it otherwise follows."""
    for name in [name for name, value in bag.rest.items() if value == "" and name.startswith("metadata.")]:
        del bag.rest[name]
    operation = bag.text("gen_ai.operation.name", "llm.request.type") or ""
    counts = _counts(bag)
    calls = [_called(row) for row in bag.indexed("gen_ai.completion.")]
    routed = bag.text("litellm.provider.model")
    user = bag.text("llm.user")
    money = bag.under("gen_ai.cost.")
    bag.take("error.stack_trace", "gen_ai.usage.total_tokens")
    openllmetry.read(bag, draft)
    # `acompletion` is `completion`, awaited.
    draft.type = _OPERATIONS.get(operation) or _OPERATIONS.get(operation.removeprefix("a")) or draft.type
    if counts:
        set_usage(draft, counts)
    if draft.usage is not None and money:
        set_cost(draft, total=money.get("total_cost"), input=money.get("input_cost"), output=money.get("output_cost"))
    if not draft.tool_calls:
        draft.tool_calls = tuple(call for call in calls if call is not None)
    if draft.provider is None and routed is not None and "/" in routed:
        draft.provider = provider(routed.partition("/")[0])
    draft.user_id = draft.user_id or user
    if draft.span.status == "error":
        draft.usage = draft.cost = None


def _counts(bag: Bag) -> dict[str, Any]:
    """The provider's usage object, a printed dictionary: it has the cached tokens that the attributes leave out."""
    printed = bag.text("metadata.usage_object")
    if printed is None or len(printed) > _MOST_PRINTED:
        return {}
    stated = _read_printed(printed)
    if not isinstance(stated, dict):
        return {}
    counts = {name: count for name, count in from_object(stated).items() if name.endswith("_tokens")}
    return {name: count for name, count in counts.items() if name.partition("_")[0] in _KEPT}


def _read_printed(printed: str) -> Any:
    """A dictionary as Python prints it: mostly it is JSON in other letters, which is read ten times as fast."""
    if '"' not in printed and "\\" not in printed:
        text = printed.replace("'", '"').replace("None", "null").replace("True", "true").replace("False", "false")
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    try:
        return ast.literal_eval(printed)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


_KEPT: Final = frozenset({"input", "output", "cache", "reasoning"})


def _called(row: dict[str, Any]) -> dict[str, Any] | None:
    name = text(row.get("function_call.name"))
    return None if name is None else tool_call({"name": name, "arguments": row.get("function_call.arguments")})
