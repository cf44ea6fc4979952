"""What settings say about privacy, kept to notice when it changes: they live in the environment of processes, and a
change there leaves no other trace."""

import json
from typing import Any, Final

from sqlalchemy import Connection

from turntrace.errors import SettingsError
from turntrace.settings import Settings
from turntrace.storage import audit, switches

_PLAIN: Final = (
    "content", "content_rules", "allow_unredacted", "redaction", "ner_model", "redaction_rules", "redaction_tags",
    "national_ids", "redaction_languages", "phone_regions", "identify", "retention_days", "encrypt_content",
    "sample_rate", "judge_allowed_hosts", "propagate_hosts",
)  # fmt: skip
# Lists of words may be names of people: how long they are is enough to see that they changed.
_COUNTED: Final = ("redaction_allow", "redaction_deny")


def declared(settings: Settings) -> dict[str, Any]:
    """The settings that decide what is kept of people and who gets it; no secrets."""
    found: dict[str, Any] = {name: _plain(getattr(settings, name)) for name in _PLAIN}
    found |= {name: len(getattr(settings, name)) for name in _COUNTED}
    try:
        found["export_to"] = sorted(f"{item.name} {item.host}" for item in settings.destinations())
    except SettingsError:
        found["export_to"] = ["unreadable"]
    found["content_urls"] = _stores(settings) or None
    return found


def _stores(settings: Settings) -> list[str]:
    return sorted(f"{name} {', '.join(found) or 'a file'}" for name, found in settings.content_hosts().items())


def note(connection: Connection, settings: Settings, *, now_us: int) -> bool:
    """Write into the audit log what has changed since a worker of this environment last began; whether anything has."""
    name = f"declared:{settings.environment}"
    text = switches.get(connection, name)
    known, present = json.loads(text) if text else {}, declared(settings)
    changes = {key: _change(known.get(key), value) for key, value in present.items() if known.get(key) != value}
    if not changes:
        return False
    switches.put(connection, name, json.dumps(present, sort_keys=True), now_us=now_us, author="configuration")
    audit.append(
        connection,
        actor="configuration",
        action="settings.change" if known else "settings.first",
        target=settings.environment,
        details=changes if known else present,
        now_us=now_us,
    )
    return True


def _change(before: Any, after: Any) -> str:
    return f"{_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
