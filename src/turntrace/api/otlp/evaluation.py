"""Results of evaluations, as events of the conventions say them, to scores.

Source: OpenTelemetry GenAI semantic conventions, event `gen_ai.evaluation.result`.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final

from turntrace.api.otlp.frames import TurnIdentity

EVENT: Final = "gen_ai.evaluation.result"
_MOST_NAME: Final = 100
_MOST_TEXT: Final = 10_000


def score(
    attributes: Mapping[str, Any], *, identity: TurnIdentity, trace_id: str, span_id: str | None, at_us: int
) -> dict[str, Any] | None:
    """The fields of a `Score`, or None for an event without name or verdict.

    The same event again is the same score: its id is made of what names it.
    """
    name, response_id = _text(attributes, "gen_ai.evaluation.name"), _text(attributes, "gen_ai.response.id")
    value, label = _number(attributes.get("gen_ai.evaluation.score.value")), _label(attributes)
    if name is None or (value is None and label is None):
        return None
    details = {"response_id": response_id, "error_type": _text(attributes, "error.type")}
    if value is not None:
        details["label"] = label
    named = "\0".join((identity.turn_id, span_id or "", name, response_id or "", str(at_us)))
    return {
        "id": hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()[:32],
        "name": name[:_MOST_NAME],
        "value": label if value is None else value,
        "data_type": "categorical" if value is None else "numeric",
        "source": "evaluator",
        "turn_id": identity.turn_id,
        "trace_id": trace_id,
        "span_id": span_id,
        "comment": _cut(_text(attributes, "gen_ai.evaluation.explanation")),
        "created_at_us": at_us,
        "updated_at_us": at_us,
        "metadata": {key: found for key, found in details.items() if found is not None},
    }


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _label(attributes: Mapping[str, Any]) -> str | None:
    return _cut(_text(attributes, "gen_ai.evaluation.score.label"))


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_MOST_TEXT]
