"""The support bot: what happens in one turn, written once for FastAPI and Flask."""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from openai import OpenAI

from example_app import knowledge_base
from example_app.knowledge_base import Hit
from turntrace import Turntrace

SYSTEM = (
    "You are a support assistant. Answer from the documents below, quote the sentence that supports the answer and "
    "cite its id in square brackets. Say so when the documents do not hold the answer.\n\n"
)
OPEN_ARTICLE = {
    "type": "function",
    "function": {
        "name": "open_article",
        "description": "The full text of one document of the knowledge base.",
        "parameters": {
            "type": "object",
            "properties": {"document_id": {"type": "string"}},
            "required": ["document_id"],
        },
    },
}
MAX_SESSIONS = 1000
HISTORY_MESSAGES = 6


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks, and for whom."""

    text: str
    user_id: str
    session_id: str
    feature: str = "support-chat"


@dataclass(slots=True)
class Bot:
    """Answers questions over the knowledge base and remembers the last turns of each session."""

    tt: Turntrace
    client: OpenAI = field(
        default_factory=lambda: OpenAI(
            base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8090/v1"),
            api_key=os.environ.get("OPENAI_API_KEY", "offline"),
            max_retries=0,
        )
    )
    small_model: str = field(default_factory=lambda: os.environ.get("EXAMPLE_SMALL_MODEL", "offline-extractive-mini"))
    large_model: str = field(default_factory=lambda: os.environ.get("EXAMPLE_LARGE_MODEL", "offline-extractive-large"))
    provider: str = field(default_factory=lambda: os.environ.get("EXAMPLE_PROVIDER", "offline"))
    _history: "OrderedDict[str, list[dict[str, Any]]]" = field(default_factory=OrderedDict)

    def ask(self, question: Question) -> dict[str, Any]:
        """A whole answer in one piece."""
        self._describe(question)
        hits = self.find(question.text)
        text = self._generate(self._messages(question, hits), self.small_model)
        self._remember(question, text)
        self.tt.update_trace(output=text)
        return {"answer": text, "documents": [hit.passage.id for hit in hits]}

    def research(self, question: Question) -> dict[str, Any]:
        """An answer by the larger model, which first opens an article with a tool."""
        self._describe(question)
        with self.tt.observation("research-agent", type="agent", input=question.text) as agent:
            hits = self.find(question.text)
            messages = self._messages(question, hits)
            call = self._choose_tool(messages)
            if call is not None:
                messages = [*messages, *self._use_tool(call)]
            text = self._generate(messages, self.large_model)
            agent.update(output=text)
        self._remember(question, text)
        self.tt.update_trace(output=text)
        return {"answer": text, "documents": [hit.passage.id for hit in hits]}

    def chat(self, question: Question) -> Iterator[str]:
        """An answer as it is written, piece by piece."""
        self._describe(question)
        hits = self.find(question.text)
        yield from self._stream(question, self._messages(question, hits))

    def find(self, query: str) -> list[Hit]:
        """The three passages that fit best."""
        with self.tt.observation("kb-search", type="retrieval", input=query) as found:
            hits = knowledge_base.search(query)
            found.update(
                query=query, documents=_documents(hits), retrieval={"data_source": "knowledge-base", "top_k": 6}
            )
        with self.tt.observation("rerank", type="reranker", input=query) as ranked:
            best = knowledge_base.rerank(query, hits)
            ranked.update(query=query, input_documents=_documents(hits), documents=_documents(best))
        return best

    def _describe(self, question: Question) -> None:
        self.tt.update_trace(
            name=question.feature,
            input=question.text,
            user_id=question.user_id,
            session_id=question.session_id,
            feature=question.feature,
        )

    def _messages(self, question: Question, hits: list[Hit]) -> list[dict[str, Any]]:
        documents = "\n".join(f"[{hit.passage.id}] {' '.join(hit.passage.text.split())}" for hit in hits)
        history = self._history.get(question.session_id, [])[-HISTORY_MESSAGES:]
        return [{"role": "system", "content": SYSTEM + documents}, *history, {"role": "user", "content": question.text}]

    def _generate(self, messages: list[dict[str, Any]], model: str) -> str:
        with self.tt.generation("answer", model=model, provider=self.provider, input=messages) as generation:
            answer = self.client.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]
            text = answer.choices[0].message.content or ""
            generation.update(
                output=text,
                model=answer.model,
                usage=_usage(answer.usage),
                finish_reason=answer.choices[0].finish_reason,
                response_id=answer.id,
            )
        return text

    def _choose_tool(self, messages: list[dict[str, Any]]) -> Any:
        tools: Any = [OPEN_ARTICLE]
        with self.tt.generation("choose-tool", model=self.large_model, provider=self.provider, input=messages) as step:
            step.update(tool_definitions=tools)
            answer = self.client.chat.completions.create(model=self.large_model, messages=messages, tools=tools)  # type: ignore[arg-type]
            calls = answer.choices[0].message.tool_calls or []
            step.update(
                output=answer.choices[0].message.content,
                tool_calls=[call.model_dump() for call in calls],
                usage=_usage(answer.usage),
                finish_reason=answer.choices[0].finish_reason,
                response_id=answer.id,
            )
        return calls[0] if calls else None

    def _use_tool(self, call: Any) -> list[dict[str, Any]]:
        arguments = json.loads(call.function.arguments)
        with self.tt.observation(call.function.name, type="tool", input=arguments) as tool:
            tool.update(tool_name=call.function.name, tool_call_id=call.id)
            text = knowledge_base.open_article(arguments["document_id"])
            tool.update(output=text)
        said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
        result = f"[{arguments['document_id']}] {' '.join(text.split())}"
        return [said, {"role": "tool", "tool_call_id": call.id, "content": result}]

    def _stream(self, question: Question, messages: list[dict[str, Any]]) -> Iterator[str]:
        pieces: list[str] = []
        with self.tt.generation(
            "answer", model=self.small_model, provider=self.provider, input=messages, parameters={"stream": True}
        ) as generation:
            chunks = self.client.chat.completions.create(  # type: ignore[call-overload]
                model=self.small_model,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
            )
            for chunk in chunks:
                if chunk.usage:
                    generation.update(usage=_usage(chunk.usage))
                for choice in chunk.choices:
                    if choice.delta.content:
                        pieces.append(choice.delta.content)
                        generation.update(output="".join(pieces))
                        yield choice.delta.content
                    if choice.finish_reason:
                        generation.update(finish_reason=choice.finish_reason, response_id=chunk.id)
        text = "".join(pieces)
        self._remember(question, text)
        self.tt.update_trace(output=text)

    def _remember(self, question: Question, text: str) -> None:
        history = self._history.setdefault(question.session_id, [])
        history += [{"role": "user", "content": question.text}, {"role": "assistant", "content": text}]
        self._history.move_to_end(question.session_id)
        while len(self._history) > MAX_SESSIONS:
            self._history.popitem(last=False)


def _documents(hits: list[Hit]) -> list[dict[str, Any]]:
    return [{"id": hit.passage.id, "content": hit.passage.text, "score": hit.score} for hit in hits]


def _usage(usage: Any) -> dict[str, int] | None:
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_tokens": cached,
    }
