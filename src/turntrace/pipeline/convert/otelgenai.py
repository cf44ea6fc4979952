"""OpenTelemetry GenAI conventions, the current ones and their older spellings, with the Pydantic AI extras."""

from typing import Any, Final

from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.document import complete_retrieval, documents
from turntrace.pipeline.convert.logevent import read_events
from turntrace.pipeline.convert.message import (
    Message,
    calls_in,
    definitions,
    from_parts,
    plain_list,
    system_message,
)
from turntrace.pipeline.convert.usage import set_cost, set_usage
from turntrace.pipeline.convert.value import microseconds, structured, text, texts
from turntrace.pipeline.convert.vocabulary import OPERATIONS, finish_reasons, kind_of, parameter, provider
from turntrace.pipeline.draft import Draft
from turntrace.records.observation import PromptLink

# Field of `Usage` (or a name of the price table) -> attributes, in order of precedence.
USAGE: Final[dict[str, tuple[str, ...]]] = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.cache_read_input_tokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "gen_ai.usage.reasoning_tokens",
    ),
    "input_audio_tokens": ("gen_ai.usage.audio.input_tokens", "gen_ai.usage.details.input_audio_tokens"),
    "output_audio_tokens": ("gen_ai.usage.audio.output_tokens", "gen_ai.usage.details.output_audio_tokens"),
    "cache_audio_read_tokens": ("gen_ai.usage.audio.cache_read.input_tokens",),
    "input_text_tokens": ("gen_ai.usage.text.input_tokens",),
    "output_text_tokens": ("gen_ai.usage.text.output_tokens",),
    "input_image_tokens": ("gen_ai.usage.image.input_tokens",),
    "output_image_tokens": ("gen_ai.usage.image.output_tokens",),
    "input_video_tokens": ("gen_ai.usage.video.input_tokens",),
    "output_video_tokens": ("gen_ai.usage.video.output_tokens",),
}
_TOTAL: Final = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_AGGREGATE: Final = "gen_ai.aggregated_usage."
_REQUEST: Final = "gen_ai.request."
_FUNCTION: Final = "code.function.return.type"
_MODEL_NAMES: Final = ("gen_ai.request.model", "gen_ai.response.model")


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from `gen_ai.*` attributes and events."""
    draft.type = kind_of(bag.take("gen_ai.operation.name"), OPERATIONS) or draft.type
    _names(bag, draft)
    _numbers(bag, draft)
    _parameters(bag, draft)
    _messages(bag, draft)
    _tool(bag, draft)
    _retrieval(bag, draft)
    _context(bag, draft)
    read_events(draft)


def looks_like_model_call(bag: Bag) -> bool:
    """Token usage and a model: a generation, whatever else is missing."""
    return any(name in bag for name in _MODEL_NAMES) and any(
        name in bag for field in ("input_tokens", "output_tokens") for name in USAGE[field]
    )


def _names(bag: Bag, draft: Draft) -> None:
    draft.model_requested = bag.text("gen_ai.request.model") or draft.model_requested
    draft.model = bag.text("gen_ai.response.model") or draft.model or draft.model_requested
    draft.provider = provider(bag.take("gen_ai.provider.name", "gen_ai.system")) or draft.provider
    draft.response_id = bag.text("gen_ai.response.id") or draft.response_id
    draft.service_tier = draft.service_tier or bag.text(
        "gen_ai.openai.response.service_tier", "openai.response.service_tier", "anthropic.response.service_tier"
    )
    reasons = bag.take("gen_ai.response.finish_reasons")
    single = bag.take("gen_ai.response.finish_reason", "anthropic.message.stop_reason", "gen_ai.response.stop_reason")
    draft.finish_reasons = finish_reasons(texts(reasons) or texts(single)) or draft.finish_reasons


def _numbers(bag: Bag, draft: Draft) -> None:
    stated = {field: bag.take(*names) for field, names in USAGE.items()}
    audio = bag.take("gen_ai.usage.details.audio_tokens")
    if stated["input_audio_tokens"] is None:
        stated["input_audio_tokens"] = audio
    bag.take(*_TOTAL)
    set_usage(draft, stated)
    set_cost(draft, total=bag.take("operation.cost", "gen_ai.usage.cost", "gen_ai.usage.total_cost"))
    aggregate = bag.under(_AGGREGATE)
    if aggregate and draft.usage is None:
        prefix = "gen_ai.usage."
        whole = Bag({prefix + name: value for name, value in aggregate.items()})
        set_usage(draft, {field: whole.take(*names) for field, names in USAGE.items()})
    draft.ttft_us = draft.ttft_us or microseconds(
        bag.take("gen_ai.response.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk")
    )


def _parameters(bag: Bag, draft: Draft) -> None:
    stated = {**bag.under("gen_ai.openai.request."), **bag.under(_REQUEST)}
    output_type = bag.take("gen_ai.output.type")
    if output_type is not None:
        stated["output_type"] = output_type
    stated.update(stream=value) if (value := bag.take("gen_ai.is_streaming", "llm.is_streaming")) is not None else None
    for name, value in stated.items():
        plain = parameter(name)
        draft.parameters.setdefault(plain, list(texts(value)) if plain == "stop" else value)


def _messages(bag: Bag, draft: Draft) -> None:
    system = system_message(bag.take("gen_ai.system_instructions"))
    given = bag.take("gen_ai.input.messages", "pydantic_ai.all_messages")
    older = bag.structured("gen_ai.prompt")
    asked: list[Message] = from_parts(given)
    if given is not None and not asked and given != []:
        asked = [{"role": "user", "content": given}]  # truncated or unknown: kept as it is
    messages = [*([] if system and system[0] in asked else system), *asked]  # some say it in both places
    if messages:
        draft.input = messages
    elif older is not None and draft.input is None:
        draft.input = plain_list(older) or older
    answered = bag.take("gen_ai.output.messages")
    older = bag.structured("gen_ai.completion")
    if answered is not None:
        _output(draft, structured(answered))
    elif older is not None and draft.output is None:
        draft.output = plain_list(older) or older
    draft.tool_definitions = definitions(bag.take("gen_ai.tool.definitions", "model_request_parameters")) or (
        draft.tool_definitions
    )


def _output(draft: Draft, answered: Any) -> None:
    draft.output = from_parts(answered) if isinstance(answered, list) else answered
    if not draft.finish_reasons and isinstance(answered, list):
        draft.finish_reasons = finish_reasons(
            entry.get("finish_reason") for entry in answered if isinstance(entry, dict)
        )
    if isinstance(draft.output, list):
        draft.tool_calls = calls_in(draft.output) or draft.tool_calls


def _tool(bag: Bag, draft: Draft) -> None:
    draft.tool_name = bag.text("gen_ai.tool.name") or draft.tool_name
    draft.tool_call_id = bag.text("gen_ai.tool.call.id") or draft.tool_call_id
    arguments = bag.structured("gen_ai.tool.call.arguments", "tool_arguments")
    result = bag.structured("gen_ai.tool.call.result", "tool_response")
    if draft.type == "tool" and arguments is None and _FUNCTION in bag:
        arguments, result = _called(bag)
    if arguments is not None and draft.input is None:
        draft.input = _unwrapped_arguments(arguments)
    if result is not None and draft.output is None:
        draft.output = _unwrapped_result(result)


def _called(bag: Bag) -> tuple[Any, Any]:
    """A function by its name, as the Google GenAI instrumentation describes the tools it calls."""
    told = bag.under("code.function.")
    bag.under("code.args.")
    names = [name for name in told if name.startswith("parameters.") and name.endswith(".value")]
    arguments = {name.removeprefix("parameters.").removesuffix(".value"): told[name] for name in names}
    return arguments or None, told.get("return.value")


def _unwrapped_arguments(arguments: Any) -> Any:
    """langchain wraps what the tool was given."""
    if isinstance(arguments, dict) and "input_str" in arguments:
        return structured(arguments["input_str"])
    return arguments


def _unwrapped_result(result: Any) -> Any:
    output = result.get("output") if isinstance(result, dict) else None
    inner = output.get("kwargs") if isinstance(output, dict) else None
    if isinstance(inner, dict) and "content" in inner:
        return structured(inner["content"])
    return result


def _retrieval(bag: Bag, draft: Draft) -> None:
    draft.query = bag.text("gen_ai.retrieval.query.text") or draft.query
    found = bag.take("gen_ai.retrieval.documents")
    if found is not None:
        draft.documents = documents(found)
    top_k = bag.take("gen_ai.retrieval.top_k")
    if draft.type == "retrieval":
        if top_k is None:
            top_k = draft.parameters.pop("top_k", None)
        complete_retrieval(draft, data_source=bag.take("gen_ai.data_source.id"), top_k=top_k)


def _context(bag: Bag, draft: Draft) -> None:
    draft.agent_name = bag.text("gen_ai.agent.name", "agent_name") or draft.agent_name
    draft.session_id = bag.text("gen_ai.conversation.id", "session.id") or draft.session_id
    draft.user_id = bag.text("user.id", "enduser.id") or draft.user_id
    draft.tags = texts(bag.take("logfire.tags")) or draft.tags
    name = bag.text("gen_ai.prompt.name")
    version = bag.take("gen_ai.prompt.version")
    variables = bag.under("gen_ai.prompt.variable.")
    if name is not None:
        known = version if isinstance(version, int) else text(version)
        draft.prompt = PromptLink(name=name, version=known, variables=variables)
