"""A model provider at the network border: OpenAI's chat, Responses and embeddings, and Anthropic's messages.

It always says the same with the same usage. What the last user text holds makes it do something else: `use the tool`
calls the first tool that is offered, `break 2` ends the connection after two pieces, `hold 2` sends two and no more
until the client has gone, `cut` ends the stream without a reason, `limit` refuses with 429, `flaky` refuses once,
`slow` takes its time between pieces.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ["The", " kettle", " needs", " vinegar", "."]
TEXT = "".join(WORDS)
OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
RESPONSES_USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 110,
}
ANTHROPIC_USAGE = {
    "input_tokens": 36,
    "cache_read_input_tokens": 64,
    "cache_creation_input_tokens": 0,
    "output_tokens": 10,
}
IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 200,
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 200},
    "total_tokens": 250,
}
HEARD_USAGE = {
    "type": "tokens",
    "input_tokens": 100,
    "input_token_details": {"text_tokens": 20, "audio_tokens": 80},
    "output_tokens": 10,
    "total_tokens": 110,
}
PICTURE = "iVBORw0KGgo="  # eight bytes
RATE_LIMIT = {"retry-after-ms": "1", "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}


class Broken(Exception):
    """Ends a response in the middle: the server closes the connection."""


class Provider:
    """The server's memory: what it was asked, newest last, and how often it refused."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self._refused: Counter[str] = Counter()
        self._ids = iter(range(1, 1_000_000))
        routes = {
            "/v1/chat/completions": self._chat,
            "/openai/deployments/{name}/chat/completions": self._chat,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
            "/v1/messages": self._messages,
            "/v1/images/generations": self._images,
            "/v1/images/edits": self._images,
            "/v1/audio/transcriptions": self._transcriptions,
            "/v1/audio/speech": self._speech,
        }
        self.app = Starlette(
            routes=[Route(path, self._answer(serve), methods=["POST"]) for path, serve in routes.items()]
        )

    def _answer(self, serve: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            body = await read(request)
            self.asked.append((request.url.path, body, dict(request.headers)))
            text = last_text(body)
            self._refused[text] += 1
            if "limit" in text or ("flaky" in text and self._refused[text] == 1):
                error = {"message": "Rate limit reached", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
                return JSONResponse({"type": "error", "error": error}, 429, RATE_LIMIT)
            answer: Response = serve(body, text, f"{next(self._ids):08d}")
            return answer

        return endpoint

    def _chat(self, body: dict[str, Any], text: str, number: str) -> Response:
        envelope = {"id": f"chatcmpl-{number}", "created": 1_795_000_000, "model": f"{body['model']}-2024-07-18"}
        call = wanted_call(body, text)
        if not body.get("stream"):
            message = {"role": "assistant", "content": None if call else TEXT}
            if call:
                function = {"name": call, "arguments": arguments(body, call)}
                message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
            whole = {"object": "chat.completion", "choices": [choice], "usage": OPENAI_USAGE, "service_tier": "default"}
            return JSONResponse({**envelope, **whole})
        envelope["object"] = "chat.completion.chunk"
        return events(text, [f"data: {json.dumps({**envelope, **piece})}\n\n" for piece in _chunks(body, call, number)])

    def _responses(self, body: dict[str, Any], text: str, number: str) -> Response:
        call = wanted_call(body, text)
        if call:
            item: dict[str, Any] = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}"}
            item |= {"name": call, "arguments": arguments(body, call), "status": "completed"}
        else:
            content = [{"type": "output_text", "text": TEXT, "annotations": []}]
            item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
            item["content"] = content
        whole = {
            **{"id": f"resp_{number}", "object": "response", "created_at": 1_795_000_000, "status": "completed"},
            **{"model": f"{body['model']}-2024-07-18", "output": [item], "usage": RESPONSES_USAGE, "error": None},
            **{"parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools") or []},
        }
        if not body.get("stream"):
            return JSONResponse(whole)
        pieces = list(_response_events(whole, item))
        numbered = [{**piece, "sequence_number": index} for index, piece in enumerate(pieces)]
        return events(text, [f"event: {piece['type']}\ndata: {json.dumps(piece)}\n\n" for piece in numbered])

    def _embeddings(self, body: dict[str, Any], text: str, number: str) -> Response:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [0.5, -0.25]} for i in range(len(texts))]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _images(self, body: dict[str, Any], text: str, number: str) -> Response:
        if body["model"] == "dall-e-3":
            image = {"url": "https://images.test/1.png", "revised_prompt": "A red kettle"}
            return JSONResponse({"created": 1_795_000_000, "data": [image]})
        if body.get("stream"):
            kind = {"type": "image_generation.partial_image", "b64_json": PICTURE, "partial_image_index": 0}
            done = {"type": "image_generation.completed", "b64_json": PICTURE, "usage": IMAGE_USAGE}
            facts = {"background": "opaque", "created_at": 1, "output_format": "png", "quality": "low", "size": "auto"}
            return events(text, [f"data: {json.dumps({**facts, **piece})}\n\n" for piece in (kind, done)])
        whole = {"created": 1_795_000_000, "output_format": "png", "data": [{"b64_json": PICTURE}]}
        return JSONResponse({**whole, "usage": IMAGE_USAGE})

    def _transcriptions(self, body: dict[str, Any], text: str, number: str) -> Response:
        if body["model"] == "whisper-1":
            return JSONResponse({"text": TEXT, "usage": {"type": "duration", "seconds": 9.6}})
        if body.get("stream"):
            pieces = [{"type": "transcript.text.delta", "delta": word} for word in WORDS]
            done = {"type": "transcript.text.done", "text": TEXT, "usage": HEARD_USAGE}
            return events(text, [f"data: {json.dumps(piece)}\n\n" for piece in (*pieces, done)])
        return JSONResponse({"text": TEXT, "usage": HEARD_USAGE})

    def _speech(self, body: dict[str, Any], text: str, number: str) -> Response:
        return Response(b"\x00" * 480, media_type="audio/mpeg")

    def _messages(self, body: dict[str, Any], text: str, number: str) -> Response:
        call = wanted_call(body, text)
        block: dict[str, Any] = {"type": "text", "text": TEXT}
        if call:
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": call}
            block["input"] = json.loads(arguments(body, call))
        whole = {
            **{"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"]},
            **{"content": [block], "stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None},
            "usage": ANTHROPIC_USAGE,
        }
        if not body.get("stream"):
            return JSONResponse(whole)
        pieces = _message_events(whole, block)
        return events(text, [f"event: {piece['type']}\ndata: {json.dumps(piece)}\n\n" for piece in pieces])


async def read(request: Request) -> dict[str, Any]:
    """The body of a request, JSON or form."""
    if request.headers["content-type"].startswith("application/json"):
        return dict(await request.json())
    async with request.form() as form:
        found = {name: value for name, value in form.items() if isinstance(value, str)}
    return {name: value == "true" if name == "stream" else value for name, value in found.items()}


def last_text(body: dict[str, Any]) -> str:
    """The text of the last user message."""
    given = body.get("messages") or body.get("input") or ""
    if isinstance(given, str):
        return given
    texts = [item for item in given if isinstance(item, str)]
    spoken = [item for item in given if isinstance(item, dict) and item.get("role") == "user"]
    return json.dumps(spoken[-1]["content"]) if spoken else " ".join(texts)


def wanted_call(body: dict[str, Any], text: str) -> str | None:
    """The tool to call: the first one offered, where the user asks for it and none has answered yet."""
    said = json.dumps(body.get("messages") or body.get("input"))
    has_answer = any(mark in said for mark in ('"tool_call_id"', '"tool_result"', '"function_call_output"'))
    if "use the tool" not in said or has_answer:
        return None
    names = [(tool.get("function") or tool).get("name") for tool in body.get("tools") or ()]
    return next(iter(names), None)


def arguments(body: dict[str, Any], name: str) -> str:
    """Arguments of a tool with one parameter at the most."""
    for tool in body["tools"]:
        found = tool.get("function") or tool
        if found.get("name") == name:
            schema = found.get("parameters") or found.get("input_schema") or {}
            return json.dumps({key: "kettle" for key in schema.get("properties") or {}})
    return "{}"


def _chunks(body: dict[str, Any], call: str | None, number: str) -> Iterator[dict[str, Any]]:
    def piece(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    if call:
        started = {"index": 0, "id": f"call_{number}", "type": "function", "function": {"name": call, "arguments": ""}}
        yield piece({"role": "assistant", "content": None, "tool_calls": [started]})
        given = arguments(body, call)
        for part in (given[:4], given[4:]):
            yield piece({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        yield piece({"role": "assistant", "content": ""})
        for word in WORDS:
            yield piece({"content": word})
    if "cut" not in last_text(body):
        yield piece({}, "tool_calls" if call else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {"choices": [], "usage": OPENAI_USAGE}


def _response_events(whole: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    place = {"output_index": 0, "item_id": item["id"]}
    empty = {**item, "content": []} if "content" in item else {**item, "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
    if "content" in item:
        part = {"type": "output_text", "text": "", "annotations": []}
        yield {"type": "response.content_part.added", **place, "content_index": 0, "part": part}
        for word in WORDS:
            yield {"type": "response.output_text.delta", **place, "content_index": 0, "delta": word, "logprobs": []}
        done = {"type": "response.output_text.done", **place, "content_index": 0, "text": TEXT, "logprobs": []}
        yield done
        yield {"type": "response.content_part.done", **place, "content_index": 0, "part": item["content"][0]}
    else:
        yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
        finished = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, **finished}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": whole}


def _message_events(whole: dict[str, Any], block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**ANTHROPIC_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    if block["type"] == "text":
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for word in WORDS:
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
    else:
        yield {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}}
        given = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_delta", "index": 0, "delta": given}
    yield {"type": "content_block_stop", "index": 0}
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": ANTHROPIC_USAGE["output_tokens"]}}
    yield {"type": "message_stop"}


def events(text: str, pieces: list[str]) -> Response:
    """Server-sent events; `break n`, `hold n` and `slow` are obeyed here."""
    wanted, held = re.search(r"break (\d+)", text), re.search(r"hold (\d+)", text)

    async def send() -> AsyncIterator[str]:
        for index, piece in enumerate(pieces):
            if wanted and index == int(wanted[1]):
                raise Broken
            if held and index == int(held[1]):
                await asyncio.Event().wait()  # cancelled when the client has gone
            if index and "slow" in text:
                await asyncio.sleep(0.2)
            yield piece
        if '"object": "chat.completion.chunk"' in pieces[0]:
            yield "data: [DONE]\n\n"

    return StreamingResponse(send(), media_type="text/event-stream")


app = Provider().app
