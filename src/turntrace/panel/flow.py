"""Where data flows in this installation, read off its settings: every hop, and what travels on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from turntrace.errors import SettingsError
from turntrace.settings import Settings

_CONTENT = {
    "redacted": "texts after redaction, numbers, names",
    "metadata": "numbers and names, no texts",
    "full": "texts as they are, numbers, names",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One way that data takes. `is_outside`: it leaves the hosts of the application and its database."""

    source: str
    target: str
    what: str
    protection: str
    is_outside: bool = False


def hops(settings: Settings, database: str, status: Mapping[str, Any]) -> tuple[Hop, ...]:
    """Every hop, in the order data takes.

    Args:
        database: its address without secrets.
        status: what `PanelContext.status` answers.
    """
    spool = (status.get("spool") or {}).get("path")
    return (
        Hop(
            source="Application",
            target=f"Spool, {spool}" if spool else "Spool, in memory",
            what="turns as they happened",
            protection="AES-GCM, only this application's processes" if spool else "never written to disk",
        ),
        Hop(
            source="Spool",
            target=f"Worker ({settings.worker}), on the same host",
            what="turns as they happened",
            protection=_redaction(settings),
        ),
        Hop(
            source="Worker",
            target=f"Database, {database}",
            what=_CONTENT[settings.content],
            protection=_at_rest(settings),
        ),
        *_stores(settings),
        Hop(
            source="Database",
            target="Panel and REST API, in the application",
            what="what a role or a key may see",
            protection="login or key, roles, audit log",
        ),
        *_outside(settings),
    )


def _stores(settings: Settings) -> list[Hop]:
    """Content of some environments goes elsewhere; of its address the host is shown."""
    return [
        Hop(
            source="Worker",
            target=f"Content of {environment}, {', '.join(found) or 'a file'}",
            what=f"texts of turns of {environment} instead; numbers and names go to the database",
            protection=_at_rest(settings),
            is_outside=bool(found),
        )
        for environment, found in settings.content_hosts().items()
    ]


def _redaction(settings: Settings) -> str:
    if settings.redaction == "off":
        return "none: redaction is off"
    model = f" and the model {settings.ner_model}" if settings.redaction == "ner" else ""
    return f"redacted there by patterns{model}, without network, withheld on failure"


def _at_rest(settings: Settings) -> str:
    if not settings.encrypt_content:
        return "the database's own; content is not encrypted by Turntrace"
    return f"content encrypted with AES-GCM, keys of {'content_keys' if settings.content_keys else 'secret_key'}"


def _outside(settings: Settings) -> list[Hop]:
    found = [
        Hop(
            source="Application",
            target="Hosts that the application calls itself",
            what="trace ids (traceparent); session ids only to " + ", ".join(settings.propagate_hosts),
            protection="no texts, no user ids",
            is_outside=True,
        )
    ]
    try:
        destinations = settings.destinations()
    except SettingsError:
        destinations = ()
    for item in destinations:
        what = "texts as they are stored, numbers, names" if item.content else "numbers and names, no texts"
        found.append(
            Hop(
                source="Database",
                target=f"OTLP endpoint {item.name}, {item.host}",
                what=what,
                protection="https" if item.url.startswith("https:") else "not encrypted on the way",
                is_outside=True,
            )
        )
    allowed = ", ".join(settings.judge_allowed_hosts) or "none in private networks"
    only = f"; no host but {', '.join(settings.outgoing_hosts)}" if settings.outgoing_hosts else ""
    found.append(
        Hop(
            source="Worker",
            target=f"Models that evaluators name (private hosts allowed: {allowed}{only})",
            what="what an evaluator's prompt quotes, as it is stored",
            protection="only evaluators that an operator made; none is on by itself",
            is_outside=True,
        )
    )
    return [*found, *(_report(settings, address) for address in settings.report_addresses())]


def _report(settings: Settings, address: str) -> Hop:
    """Of a webhook the host is shown, of other addresses the kind: the rest may be secret."""
    kind = urlsplit(address).scheme if "://" in address else "unknown"
    is_web = kind in ("http", "https")
    target = f"Webhook, {_host_of(address) or 'without a host'}" if is_web else f"{kind}, by apprise"
    is_refused = is_web and not settings.may_call(_host_of(address))
    otherwise = "only where every host of it is among outgoing_hosts" if settings.outgoing_hosts else _UNKNOWN
    return Hop(
        source="Worker",
        target=f"Report, every {settings.report_every}: {target}",
        what="sums of costs by feature, model, user and route; no texts",
        protection="never sent: not among outgoing_hosts" if is_refused else _WAYS.get(kind, otherwise),
        is_outside=True,
    )


_WAYS = {"http": "not encrypted on the way", "https": "https"}
_UNKNOWN = "as its service does"


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
