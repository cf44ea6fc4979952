"""requests: the session's `send`, which redirects pass through as well; it has no hook before a request."""

from functools import wraps
from typing import Any

import requests

from turntrace.borders import Carrying

_MARK = "_turntrace"


def attach(tt: Carrying, session: Any) -> Any:
    """See `Borders.requests`."""
    original = session.send
    if getattr(original, _MARK, None) is tt:
        return session

    @wraps(original)
    def send(request: requests.PreparedRequest, **options: Any) -> requests.Response:
        headers: Any = request.headers  # its values may be bytes where somebody put some; ours are texts
        tt.inject(headers, url=request.url)
        response: requests.Response = original(request, **options)
        return response

    setattr(send, _MARK, tt)
    session.send = send
    return session
