"""An OpenAI-compatible server that works offline: it answers by extraction from the passages it is given.

It is no language model and says so in its model names. At a set rate it gives the labelled hallucinated answer of a
known question, so that quality pages have something true to find. Run: `uvicorn example_app.offline_model:app`.
"""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from example_app import offline_judge
from example_app.knowledge_base import Passage, passages, words

MODELS = ("offline-extractive-mini", "offline-extractive-large")
KNOWN_MODELS = (*MODELS, offline_judge.MODEL)
HALLUCINATION_RATE = float(os.environ.get("OFFLINE_HALLUCINATION_RATE", "0.08"))
SECONDS_PER_TOKEN = float(os.environ.get("OFFLINE_SECONDS_PER_TOKEN", "0.004"))
FAILURE_RATE = float(os.environ.get("OFFLINE_FAILURE_RATE", "0.03"))
SLOW_RATE = float(os.environ.get("OFFLINE_SLOW_RATE", "0.04"))
_DOCUMENT = re.compile(r"^\[(?P<id>[\w-]+)\] (?P<text>.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s*(?=[A-Z“\"])")


def chance(rate: float, *parts: str) -> bool:
    """A decision that is the same for the same parts."""
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32 < rate


def question_of(messages: list[dict[str, Any]]) -> str:
    """The text of the last user message."""
    return next((str(m.get("content") or "") for m in reversed(messages) if m.get("role") == "user"), "")


def documents_of(messages: list[dict[str, Any]]) -> dict[str, str]:
    """The passages given in system and tool messages: id to text."""
    texts = (str(m.get("content") or "") for m in messages if m.get("role") in ("system", "tool"))
    return {found["id"]: found["text"] for text in texts for found in _DOCUMENT.finditer(text)}


def best_sentence(question: str, text: str) -> str:
    """The sentence that shares most content words with the question."""
    asked = set(words(question))
    return max(_SENTENCE.split(text), key=lambda sentence: len(asked & set(words(sentence)))).strip()


def answer(messages: list[dict[str, Any]]) -> str:
    """An extractive answer that cites its document, or the admission that there is none."""
    question, documents = question_of(messages), documents_of(messages)
    known = next((p for p in passages() if p.question == question), None)
    if known is not None and known.id in documents:
        return _known_answer(known)
    if not documents:
        return "I could not find anything about this in the knowledge base."
    best = max(documents, key=lambda key: len(set(words(question)) & set(words(documents[key]))))
    return f"“{best_sentence(question, documents[best])}” [{best}]"


def _known_answer(passage: Passage) -> str:
    if chance(HALLUCINATION_RATE, "hallucinate", passage.id):
        return f"{passage.hallucinated_answer} [{passage.id}]"
    return f"{passage.right_answer} — “{best_sentence(passage.question, passage.text)}” [{passage.id}]"


def tool_call(body: dict[str, Any]) -> dict[str, Any] | None:
    """The call of a tool, when tools are offered and none has answered yet."""
    messages = body["messages"]
    offered = [t["function"]["name"] for t in body.get("tools") or () if t.get("type") == "function"]
    documents = documents_of(messages)
    if "open_article" not in offered or not documents or any(m.get("role") == "tool" for m in messages):
        return None
    arguments = json.dumps({"document_id": next(iter(documents))})
    call_id = "call_" + hashlib.sha256(question_of(messages).encode()).hexdigest()[:12]
    return {"id": call_id, "type": "function", "function": {"name": "open_article", "arguments": arguments}}


def count_tokens(text: str) -> int:
    """A rough count: one token for four characters."""
    return max(1, len(text) // 4) if text else 0


def usage_of(body: dict[str, Any], output: str) -> dict[str, Any]:
    """Usage in the provider's shape; everything but the last two messages counts as cached from the third on."""
    texts = [json.dumps(m, ensure_ascii=False) for m in body["messages"]]
    total = sum(count_tokens(text) for text in texts)
    cached = sum(count_tokens(text) for text in texts[:-2]) // 64 * 64
    return {
        "prompt_tokens": total,
        "completion_tokens": count_tokens(output),
        "total_tokens": total + count_tokens(output),
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _failure(question: str, model: str) -> JSONResponse | None:
    if not chance(FAILURE_RATE, "fail", model, question):
        return None
    error = {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}
    return JSONResponse({"error": error}, status_code=429)


async def complete(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    body = await request.json()
    question, model = question_of(body["messages"]), str(body.get("model"))
    if model == offline_judge.MODEL:
        return JSONResponse(_envelope_of(body, offline_judge.content(body)))
    if model not in MODELS:
        error = {
            "message": f"model {model!r} does not exist; there are {KNOWN_MODELS}",
            "type": "invalid_request_error",
        }
        return JSONResponse({"error": error}, status_code=404)
    if (failure := _failure(question, model)) is not None:
        return failure
    if chance(SLOW_RATE, "slow", question):
        await asyncio.sleep(2.5)
    if body.get("stream"):
        return StreamingResponse(_stream(body), media_type="text/event-stream")
    return JSONResponse(await _whole(body))


async def _whole(body: dict[str, Any]) -> dict[str, Any]:
    call = tool_call(body)
    text = "" if call else answer(body["messages"])
    await asyncio.sleep(SECONDS_PER_TOKEN * count_tokens(text or json.dumps(call)))
    message = {"role": "assistant", "content": text or None, **({"tool_calls": [call]} if call else {})}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
    return {
        **_envelope(body, "chat.completion"),
        "choices": [choice],
        "usage": usage_of(body, text or json.dumps(call)),
    }


def _envelope_of(body: dict[str, Any], text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_envelope(body, "chat.completion"), "choices": [choice], "usage": usage_of(body, text)}


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    mark = hashlib.sha256(f"{time.time_ns()}".encode()).hexdigest()[:24]
    return {"id": f"chatcmpl-{mark}", "object": kind, "created": int(time.time()), "model": body["model"]}


async def _stream(body: dict[str, Any]) -> AsyncIterator[str]:
    envelope = _envelope(body, "chat.completion.chunk")
    text = answer(body["messages"])

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**envelope, 'choices': [choice], **more})}\n\n"

    yield event({"role": "assistant", "content": ""})
    for piece in re.findall(r"\S+\s*", text):
        await asyncio.sleep(SECONDS_PER_TOKEN * count_tokens(piece + "   "))
        yield event({"content": piece})
    yield event({}, "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps({**envelope, 'choices': [], 'usage': usage_of(body, text)})}\n\n"
    yield "data: [DONE]\n\n"


async def models(_: Request) -> JSONResponse:
    """`GET /v1/models`."""
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in KNOWN_MODELS]})


app = Starlette(
    routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", models, methods=["GET"])]
)
