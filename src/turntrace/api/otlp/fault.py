"""Why a request is refused, in OTLP's own form: `google.rpc.Status` in the encoding of the request."""

from typing import Final

# HTTP status to gRPC code, as `Status.code` holds it.
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 415: 3, 429: 8, 503: 14}


class Refusal(Exception):
    """A request that is not taken. `detail` names the reason and what to do, and holds nothing of what was sent."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}

    @property
    def code(self) -> int:
        """The gRPC code of this HTTP status."""
        return _CODES.get(self.status, 2)


class Unreadable(Exception):
    """The body is not what its media type says. The text says where, and holds nothing of the body."""


def later(detail: str, seconds: int = 5) -> Refusal:
    """503: the sender is to try again."""
    return Refusal(503, detail, headers={"Retry-After": str(seconds)})
