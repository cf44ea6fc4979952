"""Who and where: trace-level names from header or spans, bounded, and user ids pseudonymised as the settings ask."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from turntrace.pipeline.draft import Draft, Work
from turntrace.records.observation import PromptLink

Pseudonym = Callable[[str], str]

# Longest name or id in a column that is indexed.
MOST_CHARACTERS: Final = 200
MOST_TIER: Final = 40
MOST_VERSION: Final = 50
MOST_TAGS: Final = 50
_ENVIRONMENT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")


def bounded(text: str | None) -> str | None:
    """A name or id that fits an index: no NUL (PostgreSQL refuses it), cut with a digest so that it stays distinct."""
    if text is None or (len(text) <= MOST_CHARACTERS and "\0" not in text):
        return text or None
    clean = text.replace("\0", "\ufffd")
    if len(clean) <= MOST_CHARACTERS:
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{clean[: MOST_CHARACTERS - 17]}~{digest}"


class Identifier:
    """The stage `identify`.

    Args:
        mode: `plain`, `hash` (with `pseudonym`, a keyed function) or `none`.
        environment: used where neither header nor spans name a valid one.

    Raises:
        ValueError: mode `hash` without a pseudonym.
    """

    def __init__(self, mode: str, *, environment: str, pseudonym: Pseudonym | None = None) -> None:
        if mode == "hash" and pseudonym is None:
            raise ValueError("identify=hash needs a keyed pseudonym function")
        self._mode, self._environment, self._pseudonym = mode, environment, pseudonym

    def __call__(self, work: Work) -> None:
        """Set the names of the turn, and bound and pseudonymise those of its observations."""
        turn, drafts = work.fragment.turn, work.drafts
        for draft in drafts:
            self._bound(draft)
        work.user_id = self._user(turn.user_id) or _first(drafts, "user_id")
        work.session_id = bounded(turn.session_id) or _first(drafts, "session_id")
        work.feature, work.experiment = bounded(turn.feature), bounded(turn.experiment)
        work.release = bounded(turn.release or _hint(drafts, "release"))
        work.environment = self._environment_of(turn.environment or _hint(drafts, "environment"))
        work.tags = tags((*turn.tags, *(tag for draft in drafts for tag in draft.tags)))
        work.name = bounded(self._name(work)) or ""

    def _bound(self, draft: Draft) -> None:
        draft.name = bounded(draft.name) or ""
        draft.user_id = self._user(draft.user_id)
        for field in _BOUNDED:
            value = getattr(draft, field)
            if value is not None:
                setattr(draft, field, bounded(value))
        if draft.service_tier is not None:
            draft.service_tier = draft.service_tier[:MOST_TIER]
        if draft.tags:
            draft.tags = tags(draft.tags)
        if draft.prompt is not None:
            draft.prompt = _bounded_prompt(draft.prompt)

    def _user(self, user_id: str | None) -> str | None:
        if not user_id or self._mode == "none":
            return None
        if self._mode == "hash" and self._pseudonym is not None:
            return self._pseudonym(user_id)
        return bounded(user_id)

    def _environment_of(self, stated: str | None) -> str:
        return stated if stated and _ENVIRONMENT.match(stated) else self._environment

    def _name(self, work: Work) -> str:
        turn = work.fragment.turn
        if turn.name:
            return turn.name
        hinted = _hint(work.drafts, "name")
        if hinted:
            return str(hinted)
        if turn.route:
            return f"{turn.method} {turn.route}" if turn.method else turn.route
        return work.roots[0].name if work.drafts and work.roots else ""


_BOUNDED: Final = (
    "session_id",
    "model",
    "model_requested",
    "provider",
    "service_tier",
    "response_id",
    "tool_name",
    "tool_call_id",
    "agent_name",
)


def _bounded_prompt(prompt: PromptLink) -> PromptLink:
    """Name and version together fit the column of sums that they are one value of."""
    name, version, label = bounded(prompt.name) or "", prompt.version, prompt.label
    if isinstance(version, str):
        version = version.replace("\0", "\ufffd")[:MOST_VERSION]
    if label is not None:
        label = label.replace("\0", "\ufffd")[:MOST_VERSION]
    if (name, version, label) == (prompt.name, prompt.version, prompt.label):
        return prompt
    return replace(prompt, name=name, version=version, label=label)


def tags(stated: Iterable[str]) -> tuple[str, ...]:
    """Distinct tags, bounded in length and number."""
    distinct = dict.fromkeys(bounded(tag) for tag in stated)
    return tuple(tag for tag in distinct if tag)[:MOST_TAGS]


def _first(drafts: list[Draft], field: str) -> Any:
    """The roots' value, else the first in start order."""
    ordered = sorted(drafts, key=lambda draft: draft.parent_span_id is not None)
    return next((found for found in (getattr(draft, field) for draft in ordered) if found), None)


def _hint(drafts: list[Draft], field: str) -> Any:
    return next((found for draft in drafts if draft.hints and (found := getattr(draft.hints, field))), None)
