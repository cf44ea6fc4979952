"""What the settings say about requests, compiled once per middleware."""

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from turntrace.settings import Settings
from turntrace.tracing.trust import PeerTrust

_CACHED: Final = 1024  # paths; most requests are for few
_NEVER: Final = re.compile(r"(?!)")


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for all shell-style patterns; it matches whole paths. `*` matches `/` too."""
    parts = [fnmatch.translate(pattern.strip()) for pattern in patterns if pattern.strip()]
    return re.compile("|".join(parts)) if parts else _NEVER


class CaptureRules:
    """Which requests are left alone, whose headers count, where the session stands."""

    __slots__ = (
        "baggage_keys",
        "find_session",
        "find_user",
        "has_questions",
        "has_response_headers",
        "is_excluded",
        "session_cookie",
        "session_header",
        "session_query",
        "trust",
    )

    def __init__(self, settings: Settings) -> None:
        self.is_excluded = lru_cache(_CACHED)(compile_patterns(settings.exclude).match)
        self.trust = PeerTrust(settings.trusted_context)
        self.session_header = settings.session_header.lower()
        self.session_cookie = settings.session_cookie
        self.session_query = settings.session_query
        self.baggage_keys = frozenset(settings.baggage_keys)
        self.find_session = settings.session_id
        self.find_user = settings.user_id
        self.has_questions = self.find_session is not None or self.find_user is not None
        self.has_response_headers = settings.response_headers
