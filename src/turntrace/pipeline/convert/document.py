"""Documents of a retrieval or re-ranking, and what is worth counting about them."""

from collections.abc import Mapping
from typing import Any

from turntrace.pipeline.convert.value import items, mapping, number, structured
from turntrace.pipeline.draft import Draft

Document = dict[str, Any]
_CONTENT_KEYS = ("content", "page_content", "text")
# Our own documents mostly are in this shape already.
_SETTLED = frozenset({"id", "content", "score", "rank"})


def documents(raw: Any) -> tuple[Document, ...]:
    """Documents as `{"id", "content", "score", "rank", "metadata"}`; strings are contents."""
    return tuple(document(entry) for entry in items(raw) if isinstance(entry, (dict, str)))


def document(entry: Any) -> Document:
    """One document; its score may stand inside its metadata."""
    if isinstance(entry, str):
        return {"content": entry}
    if entry.keys() <= _SETTLED and isinstance(entry.get("score", 0.0), (int, float)):
        return dict(entry)
    metadata = mapping(entry.get("metadata"))
    found: Document = {key: value for key, value in entry.items() if key not in (*_CONTENT_KEYS, "metadata", "score")}
    content = next((entry[key] for key in _CONTENT_KEYS if entry.get(key) is not None), None)
    if content is not None:
        found["content"] = content
    score = _score(entry, metadata)
    if score is not None:
        found["score"] = score
    if metadata:
        found["metadata"] = metadata
        if found.get("id") is None and isinstance(metadata.get("id"), (str, int)):
            found["id"] = metadata["id"]
    return found


def _score(entry: Mapping[str, Any], metadata: Mapping[str, Any]) -> float | None:
    for source, key in (
        (entry, "score"),
        (entry, "relevance_score"),
        (metadata, "score"),
        (metadata, "relevance_score"),
    ):
        score = number(source.get(key))
        if score is not None:
            return score
    return None


def looks_like_documents(raw: Any) -> bool:
    """Whether a value is a list of objects that hold text."""
    found = structured(raw)
    return bool(found) and isinstance(found, list) and all(isinstance(entry, dict) for entry in found)


def complete_retrieval(draft: Draft, *, data_source: Any = None, top_k: Any = None) -> None:
    """State source, number asked for and returned, and the range of scores, as far as they are known."""
    scores = [score for score in (number(doc.get("score")) for doc in draft.documents) if score is not None]
    facts = {
        "data_source": data_source,
        "top_k": top_k,
        "returned": len(draft.documents) if draft.documents else None,
        "score_min": min(scores, default=None),
        "score_max": max(scores, default=None),
    }
    stated = {**facts, **(draft.retrieval or {})}
    if any(value is not None for value in stated.values()):
        draft.retrieval = {name: facts[name] if stated.get(name) is None else stated[name] for name in facts}
