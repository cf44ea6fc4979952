"""The trail that people leave in the audit log: who did what, never the content it was done to."""

from time import time_ns
from typing import Any

from sqlalchemy import Connection

from turntrace.panel.visit import Visit
from turntrace.storage import audit


def noted(connection: Connection, /, visit: Visit, action: str, target: str | None = None, **details: Any) -> None:
    """Write into the audit log what the person of this visit did, in the transaction that does it."""
    audit.append(
        connection,
        actor=visit.viewer.name,
        role=visit.viewer.role.label,
        action=action,
        target=target,
        details=details or None,
        now_us=time_ns() // 1000,
    )


def looked(visit: Visit, action: str, target: str) -> None:
    """Write who looks at texts that the answer to a form shows: the gate sees to pages only. Before they are shown."""
    visit.context.database.transact(noted, visit, action, target)
