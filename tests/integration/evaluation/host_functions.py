"""Functions of a host, as evaluators call them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from turntrace.tracing.observe import observe


def looks_up(document: Mapping[str, Any], db_session: Session) -> Mapping[str, Any] | None:
    """Reads the host's rows."""
    found = db_session.execute(
        text("SELECT answer FROM shop WHERE question = :q"), {"q": document["question"]}
    ).scalar()
    return None if found is None else {"value": found in document["answer"], "reason": f"the shop says {found}"}


def writes(document: Mapping[str, Any], db_session: Session) -> bool:
    """Tries to change the host's rows."""
    db_session.execute(text("UPDATE shop SET answer = 'changed'"))
    db_session.commit()
    return True


@observe
def fails(document: Mapping[str, Any]) -> bool:
    """A function with a fault, whose text nobody should read."""
    raise ValueError("text of somebody")
