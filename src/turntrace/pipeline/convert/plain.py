"""Home-made and older attribute names, read where the span's own dialect said nothing."""

from typing import Any

from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.document import complete_retrieval, documents
from turntrace.pipeline.convert.usage import set_usage
from turntrace.pipeline.convert.value import structured, texts
from turntrace.pipeline.convert.vocabulary import finish_reasons, provider
from turntrace.pipeline.draft import Draft

_USAGE = {
    "input_tokens": ("gen_ai.usage.prompt_tokens", "llm.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.completion_tokens", "llm.completion_tokens"),
    "cache_read_tokens": ("gen_ai.usage.cache_read_input_tokens",),
    "cache_write_tokens": ("gen_ai.usage.cache_creation_input_tokens",),
}
_NAMES = (
    *("llm.model", "llm.provider", "llm.temperature", "tool.name", "tool.args", "tool.result"),
    *("retrieval.query", "retrieval.k", "retrieval.docs", "gen_ai.response.finish_reason"),
    *("session.id", "user.id", "enduser.id", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.conversation.id"),
    *(name for names in _USAGE.values() for name in names),
)


def read(bag: Bag, draft: Draft) -> None:
    """Fill gaps of the draft, and its type if nothing else told it."""
    _rate_limit(bag, draft)
    if bag.rest.keys().isdisjoint(_NAMES):
        return
    _model(bag, draft)
    _tool(bag, draft)
    _retrieval(bag, draft)
    draft.session_id = draft.session_id or bag.text("gen_ai.conversation.id", "session.id")
    draft.user_id = draft.user_id or bag.text("user.id", "enduser.id")


def _model(bag: Bag, draft: Draft) -> None:
    model = bag.text("llm.model")
    draft.model_requested = draft.model_requested or model
    draft.model = draft.model or model
    draft.provider = draft.provider or provider(bag.take("llm.provider"))
    if not draft.finish_reasons:
        draft.finish_reasons = finish_reasons(texts(bag.take("gen_ai.response.finish_reason")))
    temperature = bag.take("llm.temperature")
    if temperature is not None:
        draft.parameters.setdefault("temperature", temperature)
    stated = {field: bag.take(*names) for field, names in _USAGE.items()}
    if draft.usage is None:
        set_usage(draft, stated)
    if draft.type == "span" and draft.usage is not None and draft.model is not None:
        draft.type = "generation"


def _tool(bag: Bag, draft: Draft) -> None:
    name = bag.text("gen_ai.tool.name", "tool.name")
    call_id = bag.text("gen_ai.tool.call.id")
    draft.tool_name = draft.tool_name or name
    draft.tool_call_id = draft.tool_call_id or call_id
    _fill(draft, "input", structured(bag.take("tool.args")))
    _fill(draft, "output", structured(bag.take("tool.result")))
    if draft.type == "span" and (name or call_id):
        draft.type = "tool"


def _retrieval(bag: Bag, draft: Draft) -> None:
    query, top_k, found = bag.text("retrieval.query"), bag.take("retrieval.k"), bag.take("retrieval.docs")
    if query is None and top_k is None and found is None:
        return
    draft.query = draft.query or query
    draft.documents = draft.documents or documents(found)
    if draft.type == "span":
        draft.type = "retrieval"
    complete_retrieval(draft, top_k=top_k)


def _fill(draft: Draft, name: str, value: Any) -> None:
    if value is not None and getattr(draft, name) is None:
        setattr(draft, name, value)


_HEADER = "http.response.header."
# Spellings of OpenAI and those who follow it, then Anthropic's.
_RATE_LIMIT = {
    part: tuple(
        f"{_HEADER}{name}"
        for unit in ("requests", "tokens")
        for name in (f"x-ratelimit-{part}-{unit}", f"anthropic-ratelimit-{unit}-{part}")
    )
    for part in ("limit", "remaining", "reset")
}


def _rate_limit(bag: Bag, draft: Draft) -> None:
    """What the provider's answer said about its limits, as `rate_limit{limit, remaining, reset_at}`."""
    if not any(name.startswith(_HEADER) for name in bag.rest):
        return
    found = {part: bag.take(*names) for part, names in _RATE_LIMIT.items()}
    stated = {part: value[0] if isinstance(value, list) and value else value for part, value in found.items()}
    if any(value is not None for value in stated.values()):
        limit, remaining, reset = stated["limit"], stated["remaining"], stated["reset"]
        draft.metadata["rate_limit"] = {"limit": limit, "remaining": remaining, "reset_at": reset}
