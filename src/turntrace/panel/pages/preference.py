"""What a person likes: the colour theme, kept in a cookie of theirs."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from turntrace.panel.gate import cookie
from turntrace.panel.visit import THEME_COOKIE, THEMES, visit_of

_YEAR_SECONDS: Final = 365 * 86_400


def theme(request: Request) -> Response:
    """`POST /theme`: `system`, `light` or `dark`."""
    visit = visit_of(request)
    chosen = visit.form.get("theme", "system")
    answer = visit.back()
    settings = visit.context.settings
    cookie.put(answer, request, settings, THEME_COOKIE, chosen if chosen in THEMES else "system", max_age=_YEAR_SECONDS)
    return answer
