"""How much is kept of a turn's texts: by setting, by rule, by a window an operator opened, by the turn's own word."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from turntrace.pipeline.draft import Work
from turntrace.records.window import Window
from turntrace.settings import Settings

METADATA, REDACTED, FULL = "metadata", "redacted", "full"
_ORDER: Final = {METADATA: 0, REDACTED: 1, FULL: 2}
_RULE: Final = re.compile(r"(environment|route|feature|tag):(.+)=(metadata|redacted|full)\Z", re.DOTALL)

Names = Callable[[str], Sequence[str]]  # the digests that windows may know an id by


@dataclass(frozen=True, slots=True)
class Rule:
    """Turns of an environment, route, feature or tag (patterns with `*`) and what is kept of them."""

    kind: str
    pattern: str
    mode: str

    @classmethod
    def of(cls, text: str) -> "Rule":
        """The rule of `kind:pattern=mode`.

        Raises:
            ValueError: it is written otherwise.
        """
        match = _RULE.match(text)
        if match is None:
            raise ValueError("expected environment|route|feature|tag:pattern=metadata|redacted|full")
        return cls(match[1], match[2], match[3])

    def fits(self, work: Work) -> bool:
        """Whether the turn is one of these."""
        if self.kind == "tag":
            return any(fnmatchcase(tag, self.pattern) for tag in work.tags)
        value = work.fragment.turn.route if self.kind == "route" else getattr(work, self.kind)
        return fnmatchcase(value or "", self.pattern)


class Modes:
    """Decides for every turn. `windows` may be replaced at any time; which of them is open, the turn's start tells.

    Args:
        names: digests of a user or session id as windows hold them; None: windows of users and sessions never fit.
    """

    def __init__(self, settings: Settings, names: Names | None = None) -> None:
        self._default = settings.content
        self._rules = tuple(Rule.of(text) for text in settings.content_rules)
        self._may_be_full = settings.content == FULL or settings.allow_unredacted
        self._names = names
        self.windows: tuple[Window, ...] = ()
        self.most = FULL  # less where the database is nearly full

    def window(self, work: Work) -> Window | None:
        """The window that this turn began in, or None."""
        at_us = work.fragment.turn.started_at_us
        opened = [window for window in self.windows if window.from_us <= at_us < window.until_us]
        return next((window for window in opened if self._is_of(work, window)), None)

    def of(self, work: Work) -> str:
        """`metadata`, `redacted` or `full`. A turn may ask for less than it would get, never for more."""
        window = self.window(work)
        mode = window.mode if window is not None else self._by_rule(work)
        if mode == FULL and not self._may_be_full:
            mode = REDACTED
        if _ORDER[self.most] < _ORDER[mode]:
            mode = self.most
        own = work.fragment.turn.content
        return own if own in _ORDER and _ORDER[own] < _ORDER[mode] else mode

    def _by_rule(self, work: Work) -> str:
        return next((rule.mode for rule in self._rules if rule.fits(work)), self._default)

    def _is_of(self, work: Work, window: Window) -> bool:
        turn = work.fragment.turn
        if window.kind == "route":
            return fnmatchcase(turn.route or "", window.value)
        ids: Iterable[str | None] = (
            (turn.user_id, work.user_id) if window.kind == "user" else (turn.session_id, work.session_id)
        )
        return self._names is not None and any(window.value in self._names(known) for known in ids if known)
