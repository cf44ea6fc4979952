"""The example's three evaluators: a judge, a check, and a function that looks into the example's own table.

Installed over the REST API, as any user would: `install(url, key, model_url)`.
"""

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session

from example_app.knowledge_base import passages
from example_app.offline_judge import MODEL

_WORD = re.compile(r"[a-z0-9]+")


def definitions(model_url: str) -> list[dict[str, Any]]:
    """The evaluators as `POST /evaluators` takes them."""
    shared = {"target": "trace", "filter": {"status": "ok"}, "schedule": {"interval_seconds": 2}}
    return [
        {
            **shared,
            "template": "unsupported_claim",
            "name": "Unsupported claim (offline lexical judge)",
            "score": {"name": "unsupported_claim", "data_type": "boolean", "better": "low"},
            "judge": {"base_url": model_url, "model": MODEL},
            "daily_budget_usd": "5.00",
        },
        {
            **shared,
            "name": "Groundedness (built-in check)",
            "kind": "check",
            "check": {"name": "groundedness"},
            "score": {"name": "groundedness", "data_type": "numeric", "min": 0, "max": 1},
        },
        {
            **shared,
            "name": "Hallucination (table of right answers)",
            "kind": "code",
            "code": {"function": "example_app.evaluators:hallucinated"},
            "score": {"name": "hallucination", "data_type": "boolean", "better": "low"},
        },
    ]


def hallucinated(document: Mapping[str, Any], db_session: Session) -> Mapping[str, Any] | None:
    """Whether an answer from the right document is another one than the table's; None where the table cannot tell.

    An answer from another document is a search that missed, not a hallucination.
    """
    found = text("SELECT document_id, right_answer FROM answer WHERE question = :question")
    row = db_session.execute(found, {"question": document["question"]}).first()
    said = str(document["answer"])
    if row is None or f"[{row.document_id}]" not in said:
        return None
    is_right = _plain(said).startswith(_plain(row.right_answer))
    return {"value": not is_right, "reason": f"{'as' if is_right else 'not as'} the table of right answers has it"}


def _plain(value: str) -> str:
    return " ".join(_WORD.findall(value.lower())) + " "


def make_table(path: Path) -> None:
    """The example's own table: questions with their documents and right answers."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answer "
            "(question TEXT PRIMARY KEY, document_id TEXT NOT NULL, right_answer TEXT NOT NULL)"
        )
        rows = [(passage.question, passage.id, passage.right_answer) for passage in passages()]
        connection.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", rows)
    connection.close()


def install(panel_url: str, key: str, model_url: str) -> None:
    """Add the evaluators; those that are there already stay as they are."""
    with httpx.Client(base_url=f"{panel_url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30) as api:
        known = {item["name"] for item in api.get("/evaluators").raise_for_status().json()["data"]}
        for definition in definitions(model_url):
            if definition["name"] not in known:
                api.post("/evaluators", json=definition).raise_for_status()
