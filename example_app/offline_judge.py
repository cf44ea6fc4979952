"""A stand-in for a judge that works offline: it counts words, and is no language model.

It answers OpenAI's chat completions with structured output under the model name `offline-lexical-judge`, as part of the
server in `offline_model`. Of the texts in `<documents>` and `<answer>` it says which words of the answer stand in no
document; it understands none of them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from example_app.knowledge_base import words

MODEL = "offline-lexical-judge"
SUPPORTED = 0.9  # share of an answer's words that must stand in the documents
_SECTION = re.compile(r"<(question|documents|answer|conversation)>\n(.*?)\n</\1>", re.DOTALL)
_CITATION = re.compile(r"\[[\w-]+\]")


def verdict(body: Mapping[str, Any]) -> dict[str, Any]:
    """Reason and score for the last message of a request, in the form that its JSON schema asks for."""
    prompt = str(body["messages"][-1]["content"])
    parts = {found[1]: found[2] for found in _SECTION.finditer(prompt)}
    said = words(_CITATION.sub(" ", parts.get("answer", "")))
    known = set(words(parts.get("documents", "")))
    missing = [word for word in said if word not in known]
    share = 1 - len(missing) / len(said) if said else 1.0
    names = ", ".join(dict.fromkeys(missing[:8])) or "none"
    reason = f"{share:.0%} of the words of the answer stand in the documents; missing: {names}"
    return {"reason": reason, "score": _as_asked(share, _wanted(body))}


def _wanted(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of the score."""
    form = (body.get("response_format") or {}).get("json_schema") or {}
    found = form.get("schema", {}).get("properties", {}).get("score", {"type": "boolean"})
    return found if isinstance(found, Mapping) else {}


def _as_asked(share: float, schema: Mapping[str, Any]) -> float | bool | str:
    if "enum" in schema:
        choices = list(schema["enum"])
        return str(choices[0] if share >= SUPPORTED else choices[-1])
    if schema.get("type") == "number":
        low, high = schema.get("minimum", 0), schema.get("maximum", 1)
        return round(float(low + share * (high - low)), 4)
    return share < SUPPORTED  # asked for a finding: a claim that no document has


def content(body: Mapping[str, Any]) -> str:
    """The answer's text."""
    return json.dumps(verdict(body))
