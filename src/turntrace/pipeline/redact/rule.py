"""Rules of the operator for single fields, applied before anything is analysed: keep, withhold, or hash as a whole."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from turntrace.pipeline.redact.walk import Kept, looks_like_json
from turntrace.records.trace import Trace

WITHHELD: Final = "[withheld by rule]"
FIELDS: Final = frozenset(
    ["input", "output", "received", "metadata", "feature_flags", "tags", "parameters", "query", "documents",
     "input_documents", "tool_calls", "tool_definitions", "retrieval"]
)  # fmt: skip
_FORM: Final = re.compile(r"(?:(/[^:]*):)?([a-z_]+)(?:\.([^=]+))?=(keep|withhold|hash)\Z")

Tag = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done with a field, or with every value under a key in it, on routes that match."""

    route: str | None
    field: str
    key: str | None
    action: str

    @classmethod
    def of(cls, text: str) -> "Rule":
        """The rule of `[/route/*:]field[.key]=action`.

        Raises:
            ValueError: it is written otherwise, or there is no such field.
        """
        match = _FORM.match(text)
        if match is None or match[2] not in FIELDS:
            raise ValueError(
                f"expected [/route/*:]field[.key]=keep|withhold|hash, a field being {', '.join(sorted(FIELDS))}"
            )
        return cls(match[1], match[2], match[3], match[4])


def ruled(trace: Trace, rules: Sequence[Rule], tag: Tag) -> Trace:
    """The trace with these rules applied to it and to its observations; what they kept is left alone afterwards.

    Args:
        tag: the placeholder of a whole value.
    """
    own = [rule for rule in rules if rule.route is None or fnmatchcase(trace.route or "", rule.route)]
    if not own:
        return trace
    observations = tuple(_changed(item, own, tag) for item in trace.observations)
    changed: Trace = _changed(trace, own, tag)
    return replace(changed, observations=observations)


def _changed(record: Any, rules: Iterable[Rule], tag: Tag) -> Any:
    changes: dict[str, Any] = {}
    settled: set[tuple[str, str | None]] = set()
    for rule in rules:
        value = changes.get(rule.field, getattr(record, rule.field, None))
        if not value or (rule.field, rule.key) in settled or (rule.field, None) in settled:
            continue
        settled.add((rule.field, rule.key))
        try:
            changes[rule.field] = _done(value, rule.action, tag) if rule.key is None else _beneath(value, rule, tag)
        except RecursionError:  # nested deeper than is ever walked: withheld by that, and counted
            continue
    return replace(record, **changes) if changes else record


def _beneath(value: Any, rule: Rule, tag: Tag) -> Any:
    """The value with what stands under the rule's key, at any depth, dealt with."""
    if isinstance(value, Mapping):
        return {
            key: _done(item, rule.action, tag) if key == rule.key else _beneath(item, rule, tag)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_beneath(item, rule, tag) for item in value)
    if type(value) is str and rule.action != "keep" and looks_like_json(value):
        return _in_json(value, rule, tag)
    return value


def _in_json(text: str, rule: Rule, tag: Tag) -> str:
    """A text that is itself JSON, such as the arguments of a tool call: written again where the rule changed it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    new = _beneath(value, rule, tag)
    return text if new == value else json.dumps(new, ensure_ascii=False)


def _done(value: Any, action: str, tag: Tag) -> Any:
    if action == "withhold":
        return _withheld(value)
    return _each(value, Kept if action == "keep" else lambda text: Kept(tag(text)))


def _withheld(value: Any) -> Any:
    """The marker in the shape of the value, so that what reads the field need not expect anything new."""
    if isinstance(value, Mapping):
        return {"withheld": WITHHELD}
    if isinstance(value, (list, tuple)):
        return type(value)([{"content": WITHHELD} if isinstance(value[0], Mapping) else WITHHELD])
    return WITHHELD


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each(item, change) for item in value)
    if isinstance(value, (str, int, float)):
        return change(str(value)) if isinstance(value, str) or change is not Kept else value
    return value
