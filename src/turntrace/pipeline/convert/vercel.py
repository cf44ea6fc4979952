"""Vercel AI SDK 4 to 6: `ai.*` (version 7 follows the GenAI conventions)."""

from typing import Any, Final

from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.message import Message, definitions, plain, plain_list, tool_calls
from turntrace.pipeline.convert.timing import since_start
from turntrace.pipeline.convert.usage import set_usage
from turntrace.pipeline.convert.value import mapping, microseconds, structured, text, texts
from turntrace.pipeline.convert.vocabulary import finish_reasons, parameter, provider
from turntrace.pipeline.draft import Draft, TraceHints
from turntrace.records.observation import PromptLink

_TYPES: Final = {
    **{f"ai.{verb}": "generation" for verb in ("generateText.doGenerate", "streamText.doStream")},
    **{f"ai.{verb}": "generation" for verb in ("generateObject.doGenerate", "streamObject.doStream")},
    **{f"ai.{verb}": "embedding" for verb in ("embed.doEmbed", "embedMany.doEmbed")},
    "ai.rerank.doRerank": "reranker",
    "ai.toolCall": "tool",
}
_USAGE: Final = {
    "input_tokens": (
        *("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    ),
    "output_tokens": (
        *("ai.usage.outputTokens", "ai.usage.completionTokens"),
        *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    ),
    "cache_read_tokens": ("ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"),
    "cache_write_tokens": ("ai.usage.inputTokenDetails.cacheWriteTokens",),
    "reasoning_tokens": ("ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"),
}


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from `ai.*` attributes, gaps from GenAI ones."""
    operation = bag.text("ai.operationId") or (bag.text("operation.name") or "").partition(" ")[0]
    bag.take("operation.name", "resource.name")
    kind = _TYPES.get(operation, "chain")
    _model(bag, draft)
    _numbers(bag, draft)
    _given(bag, draft)
    _answered(bag, draft)
    _tool(bag, draft)
    _context(bag, draft)
    otelgenai.read(bag, draft)
    draft.type = kind


def _model(bag: Bag, draft: Draft) -> None:
    model_id = bag.text("ai.model.id")
    draft.model_requested = bag.text("gen_ai.request.model") or model_id
    draft.model = bag.text("ai.response.model", "gen_ai.response.model") or model_id
    stated = bag.text("gen_ai.system", "ai.model.provider")
    draft.provider = provider(stated.partition(".")[0]) if stated else None
    draft.response_id = bag.text("ai.response.id", "gen_ai.response.id")
    single, several = bag.take("ai.response.finishReason"), bag.take("gen_ai.response.finish_reasons")
    draft.finish_reasons = finish_reasons(texts(single) or texts(several))
    for name, value in bag.under("ai.settings.").items():
        draft.parameters[parameter(name)] = structured(value)


def _numbers(bag: Bag, draft: Draft) -> None:
    stated = {field: bag.take(*names) for field, names in _USAGE.items()}
    bag.under("ai.usage.")
    set_usage(draft, stated)
    milliseconds = bag.number("ai.response.msToFirstChunk")
    if milliseconds is not None:
        draft.ttft_us = microseconds(milliseconds / 1000)
    draft.ttft_us = draft.ttft_us or since_start(draft, "ai.stream.firstChunk")


def _given(bag: Bag, draft: Draft) -> None:
    messages, prompt = bag.structured("ai.prompt.messages"), bag.structured("ai.prompt")
    values = bag.take("ai.values", "ai.value")
    draft.input = plain_list(messages) or messages
    if draft.input is None:
        draft.input = _prompt(prompt)
    if draft.input is None:
        draft.input = structured(values)
    draft.tool_definitions = definitions(bag.take("ai.prompt.tools"))
    choice = bag.structured("ai.prompt.toolChoice")
    if choice is not None:
        draft.parameters["tool_choice"] = choice


def _prompt(prompt: Any) -> Any:
    """`{"system", "prompt" | "messages"}` as messages."""
    if not isinstance(prompt, dict):
        return prompt
    system: list[Message] = [{"role": "system", "content": prompt["system"]}] if prompt.get("system") else []
    messages = plain_list(prompt.get("messages"))
    if messages:
        return [*system, *messages]
    asked = prompt.get("prompt")
    return [*system, {"role": "user", "content": asked}] if asked is not None else prompt


def _answered(bag: Bag, draft: Draft) -> None:
    said, thought = bag.take("ai.response.text"), bag.take("ai.response.reasoning")
    built = bag.structured("ai.response.object")
    calls = tool_calls(bag.take("ai.response.toolCalls"))
    draft.tool_calls = tuple(calls)
    if said is None and not calls and thought is None:
        draft.output = built
        return
    message = plain({"role": "assistant", "content": said, "tool_calls": calls})
    if thought is not None:
        message["reasoning"] = thought
    draft.output = [message]


def _tool(bag: Bag, draft: Draft) -> None:
    draft.tool_name, draft.tool_call_id = bag.text("ai.toolCall.name"), bag.text("ai.toolCall.id")
    arguments, result = bag.structured("ai.toolCall.args"), bag.structured("ai.toolCall.result")
    draft.input = arguments if arguments is not None else draft.input
    draft.output = result if result is not None else draft.output


def _context(bag: Bag, draft: Draft) -> None:
    function = bag.text("ai.telemetry.functionId")
    if function:
        draft.hints = TraceHints(name=function)
    told = bag.under("ai.telemetry.metadata.")
    draft.user_id, draft.session_id = text(told.pop("userId", None)), text(told.pop("sessionId", None))
    draft.tags = texts(told.pop("tags", None))
    linked = mapping(told.pop("langfusePrompt", None))
    if isinstance(linked.get("name"), str):
        version = linked.get("version")
        draft.prompt = PromptLink(name=linked["name"], version=version if isinstance(version, int) else text(version))
    draft.metadata = {**draft.metadata, **{name: structured(value) for name, value in told.items()}}
    bag.under("ai.request.headers.")
