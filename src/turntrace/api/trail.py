"""What keys did, in the audit log. A key asks many times a second: one row a key, call and minute, with how many."""

import time
from dataclasses import dataclass
from threading import Lock
from typing import Final

from sqlalchemy import Connection

from turntrace.api.endpoint import Endpoint
from turntrace.api.principal import Principal
from turntrace.storage import audit
from turntrace.storage.database import Database

EVERY_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 2_000
# Calls that give no texts of the host's users; every other one is written down.
_NUMBERS: Final = ("/costs", "/metrics", "/loss", "/health", "/openapi.json")


@dataclass(slots=True)
class _Known:
    at: float  # when a row was written, monotonic seconds
    calls: int = 0  # since then


class Trail:
    """Counts calls and writes a row where one is due; for several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._known: dict[tuple[str, str], _Known] = {}

    def is_due(self, principal: Principal, endpoint: Endpoint) -> bool:
        """Count a call; whether a row is to be written for it now."""
        if endpoint.path in _NUMBERS:
            return False
        with self._lock:
            known = self._known.get((principal.key_id, endpoint.name))
            if known is None or time.monotonic() - known.at >= EVERY_SECONDS:
                return True
            known.calls += 1
            return False

    def write(self, principal: Principal, endpoint: Endpoint) -> None:
        """Write the row. Blocks.

        Raises:
            DatabaseUnavailable: it cannot be written, so nothing may be answered.
        """
        key = principal.key_id, endpoint.name
        with self._lock:
            known = self._known.get(key)
            earlier = known.calls if known is not None else 0
        self._database.transact(_append, principal, endpoint, earlier)
        with self._lock:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[key] = _Known(time.monotonic())


def _append(connection: Connection, principal: Principal, endpoint: Endpoint, earlier: int) -> None:
    audit.append(
        connection,
        actor=principal.name,
        role="key",
        action="api.read" if endpoint.method == "GET" else "api.write",
        target=endpoint.name,
        details={"key": principal.key_id, **({"calls before": earlier} if earlier else {})},
        now_us=time.time_ns() // 1000,
    )
