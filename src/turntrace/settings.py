"""Every setting: one frozen class, read from `TURNTRACE_*`. Nothing here touches disk, network or database."""

import importlib
import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from turntrace.errors import SettingsError
from turntrace.records.destination import Destination, read_destinations
from turntrace.records.dimension import parse as parsed_dimension
from turntrace.records.hostlink import parse as parsed_link
from turntrace.records.retention import KINDS as RETENTION_KINDS
from turntrace.records.retention import Rule as RetentionRule
from turntrace.records.retention import parsed as parsed_retention
from turntrace.records.storeurl import hosts, names_hosts_elsewhere

PREFIX: Final = "TURNTRACE_"
_SCORE: Final = re.compile(r"[^<>=,]+(?:(?:<=|>=|=|<|>).+)?\Z")
_SAMPLE_RATE = re.compile(r"(feature|route|tenant):.+=(0(\.\d+)?|1(\.0+)?)\Z", re.DOTALL)
NATIONS: Final = frozenset(
    ("AU", "CA", "DE", "ES", "FI", "IN", "IT", "KR", "NG", "PH", "PL", "SE", "SG", "TH", "TR", "UK", "US", "ZA")
)
_RULE = re.compile(
    r"(?:/[^:]*:)?(?:input|output|received|metadata|feature_flags|tags|parameters|query|documents|input_documents|"
    r"tool_calls|tool_definitions|retrieval)(?:\.[^=]+)?=(?:keep|withhold|hash)\Z"
)
_CONTENT_RULE = re.compile(r"(?:environment|route|feature|tag):.+=(?:metadata|redacted|full)\Z", re.DOTALL)
_STORE = re.compile(r"\s*([^=,\s]+)=(\S*?[^\s,])\s*(?:,(?=\s*[^=,:/@\s]+=[a-z0-9+]+:)|\Z)")
_NEXT_STORE = re.compile(r"=[a-z0-9+]+://")  # inside a URL: two stores that no comma separates
_ENVIRONMENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")


class Secret:
    """A string that never shows itself: `reveal()` is the only way to the text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Secret is not pickled")


def _setting(default: Any, help_text: str, **extra: Any) -> Any:
    if isinstance(default, (dict, list)):
        raise TypeError("settings have immutable defaults")
    return field(default=default, metadata={"help": help_text, **extra})


def _choice(default: str, help_text: str, *choices: str) -> Any:
    return _setting(default, help_text, choices=choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one Turntrace. Unknown keys and unusable values raise `SettingsError`; secrets are not in `repr`."""

    database_url: Secret | None = _setting(
        None,
        "SQLAlchemy URL of the database; none: our own `turntrace.db` (SQLite) in the working directory.",
    )
    content_urls: Secret | None = _setting(
        None,
        "Databases that content of some environments lies in instead: `production-eu=postgresql://…,staging=…`, names "
        "of environments with SQLAlchemy URLs; none: all lies in `database_url`.",
    )
    spool_dir: str | None = _setting(
        None, "Directory of the spool; none: the platform's state directory, then /var/tmp, then memory."
    )
    spool_max_bytes: int = _setting(1 << 30, "Bytes the spool of this application may take on disk.", minimum=1 << 20)
    secret_key: Secret | None = _setting(
        None, "Key material, 32 characters or more; several separated by commas: the first writes, all read."
    )
    worker: str = _choice("process", "Where turns are worked on.", "process", "thread", "external")
    enabled: bool = _setting(True, "Kill switch: `0` makes every wrapper pass through.")
    record: str = _setting(
        "ai",
        "Which requests become traces: `ai` (those with an observation), `all`, or comma-separated route patterns.",
    )
    exclude: tuple[str, ...] = _setting(
        ("/health*", "/healthz", "/livez", "/readyz", "/metrics", "/static/*", "/favicon.ico"),
        "Path patterns that never become traces.",
    )
    content: str = _choice("redacted", "What is kept of texts.", "redacted", "metadata", "full")
    content_rules: tuple[str, ...] = _setting(
        (),
        "What is kept of some turns: `environment:staging=redacted`, `route:/clinic/*=metadata`, `feature:…`, "
        "`tag:role:doctor=metadata`; the first that fits counts, else `content`.",
    )
    allow_unredacted: bool = _setting(
        False, "Whether rules and windows of full capture may store unredacted texts (mode `full`)."
    )
    redaction: str = _choice("patterns", "How texts are redacted before storage.", "patterns", "ner", "off")
    ner_model: str | None = _setting(None, "Import name of the spaCy model that `redaction=ner` uses.")
    redaction_allow: tuple[str, ...] = _setting((), "Findings that are left as they are (whole, case ignored).")
    redaction_deny: tuple[str, ...] = _setting((), "Words that are always redacted (whole words, case ignored).")
    redaction_rules: tuple[str, ...] = _setting(
        (),
        "What is done with single fields: `metadata.order=keep`, `metadata.notes=withhold`, `input.account=hash`; a "
        "route pattern may stand before it: `/internal/*:metadata=keep`. The first that fits counts.",
    )
    redaction_tags: str = _choice(
        "turn",
        "Within what one value gives one placeholder: in a turn (`<EMAIL_1>`), or everywhere (`<EMAIL_h…>`, a keyed "
        "hash to correlate by).",
        "turn",
        "everywhere",
    )
    national_ids: tuple[str, ...] = _setting(
        (), "Countries whose ids of people are recognised too: AU CA DE ES FI IN IT KR NG PH PL SE SG TH TR UK US ZA."
    )
    redaction_languages: tuple[str, ...] = _setting(("en",), "Languages of the redaction recognisers.")
    phone_regions: tuple[str, ...] = _setting(("US", "GB", "DE"), "Regions whose phone numbers are recognised.")
    sample_rate: float = _setting(
        1.0, "Share of ordinary turns that is kept, 0..1; errors, slow and costly ones always."
    )
    keep_slow_ms: int = _setting(10_000, "Turns at least this long (ms) are always kept.", minimum=0)
    keep_cost_usd: Decimal = _setting(Decimal("0.50"), "Turns at least this costly (USD) are always kept.")
    keep_tokens: int = _setting(50_000, "Turns with at least so many tokens, in and out, are always kept.", minimum=1)
    keep_release_turns: int = _setting(
        20, "So many first turns of a release not seen before by the worker are always kept.", minimum=0
    )
    sample_preset: str = _choice(
        "none", "`economical` keeps 10 % of ordinary turns, unless sample_rate is lower.", "none", "economical"
    )
    sample_rates: tuple[str, ...] = _setting(
        (),
        "Rates of their own: `feature:NAME=0.1`, `route:/PATH=0.5`, `tenant:NAME=1` (tag `tenant:NAME`); the highest "
        "that fits counts.",
    )
    sampler: str | None = _setting(
        None, "`module:function` of a trace that gives its rate 0..1, or None; it goes before sample_rates."
    )
    sample_hold_hours: float = _setting(
        24.0, "Hours that turns left out by sampling are held, for scores that come late; 0: none are."
    )
    budget_failure: str = _choice(
        "open",
        "What becomes of model calls while budgets cannot be checked: let through, or refused.",
        "open",
        "closed",
    )
    budget_wait_ms: int = _setting(
        250, "Longest time (ms) a call waits for the database when its process has no money in hand.", minimum=1
    )
    budget_reserve_usd: Decimal = _setting(
        Decimal("0.01"), "Reserved (USD) for a call of which nothing is known: no tokens, no price, no earlier call."
    )
    budget_lease_seconds: float = _setting(
        60.0, "Seconds after which what a process held of a budget is free again, if it was killed.", minimum=2
    )
    retention_days: str = _setting(
        "content=30,numbers=400,sums=1100",
        "Days that rows are kept: one number, or by kind `content=30,numbers=400`; `sums`: roll-ups that name nobody, "
        "never shorter than numbers; of one environment "
        "`content@staging=7`; longer for turns with a flag `content+error=90` (`error`, `annotated`, `pinned`).",
    )
    archive_dir: str | None = _setting(
        None, "Directory that turns are written to as compressed JSON lines before retention deletes them; none: gone."
    )
    storage_max_bytes: int = _setting(
        0, "Bytes the database may take: from 90 % on texts are not stored, past it turns wait in the spool; 0: no end."
    )
    environment: str = _setting("default", "Name of the deployment environment (lower case, digits, - and _).")
    release: str | None = _setting(None, "Release of the host; none: read from common CI variables.")
    service_name: str | None = _setting(None, "Name of the host service; none: OTEL_SERVICE_NAME.")
    trusted_context: str = _setting(
        "all",
        "Whose `traceparent` is continued: `all`, `none`, or comma-separated networks; baggage is believed from "
        "named networks and loopback only.",
    )
    session_header: str = _setting("X-Session-Id", "Request header with the session id.")
    session_cookie: str | None = _setting(None, "Cookie with the session id.")
    session_query: str | None = _setting(None, "Query parameter with the session id.")
    session_id: Callable[..., str | None] | None = _setting(
        None,
        "Callable (or `module:function`) that gives the session id of a request (ASGI scope or WSGI environ).",
    )
    user_id: Callable[..., str | None] | None = _setting(
        None,
        "Callable (or `module:function`) that gives the user id of a request (ASGI scope or WSGI environ).",
    )
    baggage_keys: tuple[str, ...] = _setting(
        ("session.id",),
        "Baggage entries that are read: any of session.id, user.id, feature, experiment, tags.",
    )
    propagate_hosts: tuple[str, ...] = _setting(
        ("private",),
        "Hosts that outgoing `baggage` goes to: names, networks, or `private` (loopback and private networks).",
    )
    propagate_keys: tuple[str, ...] = _setting(
        ("session.id",),
        "Baggage entries that are sent there: any of session.id, user.id, feature, experiment, tags.",
    )
    response_headers: bool = _setting(True, "Whether answers carry X-Trace-Id and traceresponse.")
    identify: str = _choice("plain", "How user ids are stored.", "plain", "hash", "none")
    rollup_tags: tuple[str, ...] = _setting(
        (), "Up to five tag keys (tags written `key:value`) that costs are kept by."
    )
    dimensions: tuple[str, ...] = _setting(
        (),
        "Columns of the host's own tables that costs are grouped by: `plan=account.id.plan@user` looks users up in "
        "`account` by `id` and shows `plan`; `@tag:KEY` looks a declared tag up.",
    )
    host_links: tuple[str, ...] = _setting(
        (),
        "Links into the host's own admin, with `{value}` for the id: `user=https://shop.example/admin/users/{value}`; "
        "also `session`, `request`, `feature`, `release`, `experiment`, `tag:KEY`; `Label@user=…` names one.",
    )
    success_score: str | None = _setting(
        None,
        "Score that makes a turn (or each turn of a session) a success, as lists are filtered by it: `resolved=true`, "
        "`rating>=4`; the Cost page then shows the cost of a successful turn.",
    )
    tracer_provider: str = _choice(
        "auto",
        "Whether `tt.instrument()` may set the global OTel tracer provider where the host has none.",
        "auto",
        "never",
    )
    thread_context: bool = _setting(True, "Whether threads and executors started inside a turn inherit it.")
    stream_usage_hosts: tuple[str, ...] = _setting(
        ("api.openai.com", "*.api.openai.com", "*.openai.azure.com", "api.deepseek.com", "api.groq.com"),
        "Hosts that the drop-in OpenAI client asks for the usage of streams (names, `*.` suffixes, networks, "
        "`private`); the extra chunk is kept from the application.",
    )
    provider_hosts: tuple[str, ...] = _setting(
        (), "Providers behind OpenAI-compatible servers, `host=provider` or `host:port=provider` each."
    )
    keep_scopes: tuple[str, ...] = _setting(
        (), "OTel instrumentation scopes whose spans are kept although they are noise."
    )
    prices_file: str | None = _setting(
        None, "JSON file with a list of own prices, each in the shape of `POST /prices`."
    )
    estimate_usage: bool = _setting(
        True, "Whether calls whose provider states no usage get an estimated one (extra `tokens`), flagged as such."
    )
    report_every: str = _choice(
        "none", "How often a report on spending is sent to report_to, in UTC.", "none", "day", "week", "month"
    )
    report_to: Secret | None = _setting(
        None,
        "Where reports go, separated by commas: `https://…` webhooks, or apprise URLs (`mailto://…`, extra `notify`).",
    )
    panel_auth: Callable[..., Any] | None = _setting(
        None,
        "Callable (or `module:function`) that gives role (str) or {name, role, scope} for a panel request, else None.",
    )
    panel_user: str | None = _setting(None, "Name of one panel account kept in the settings (role admin).")
    panel_password: Secret | None = _setting(None, "Password of `panel_user`, 12 characters or more.")
    panel_title: str = _setting("Turntrace", "Title shown on the panel.")
    panel_url: str | None = _setting(None, "Public base URL of the panel, for links in notifications.")
    cors_origins: tuple[str, ...] = _setting((), "Origins of front ends that may send scores with a `feedback` key.")
    export_to: Secret | None = _setting(
        None,
        "OTLP/HTTP endpoints that stored turns are sent on to, after redaction: JSON list of objects with name, url, "
        "headers, environments, routes, sample_rate, content; or `@` and the path of a file that holds it.",
    )
    export_allowed_hosts: tuple[str, ...] = _setting(
        (), "Private hosts or networks that `export_to` may name, `private` for all; public hosts always may."
    )
    export_max_turns: int = _setting(
        100_000, "Turns that may wait for one destination; past it the oldest are left out.", minimum=1
    )
    outgoing_hosts: tuple[str, ...] = _setting(
        (),
        "The only hosts that Turntrace itself may call (judges, `export_to`, `report_to`, `content_urls`): names, "
        "`*.example.com`; none: any that is configured.",
    )
    judge_allowed_hosts: tuple[str, ...] = _setting((), "Private hosts or networks that evaluators may call.")
    evaluator_functions: tuple[str, ...] = _setting(
        (), "Functions of the host (`module:function`) that evaluators and judges may call; none else is."
    )
    evaluator_database_url: Secret | None = _setting(
        None, "Database that functions of evaluators may read, never write; none: `database_url`."
    )
    max_field_bytes: int = _setting(
        256 << 10, "Bytes of one text or JSON field; more is cut, head and tail kept.", minimum=1024
    )
    max_turn_bytes: int = _setting(
        4 << 20, "Bytes of one turn; later fields are replaced by their length.", minimum=16 << 10
    )
    max_spans: int = _setting(2000, "Spans of one turn; later ones are counted only.", minimum=1)
    max_received_bytes: int = _setting(
        64 << 10, "Bytes kept of a streamed answer as the client was given it.", minimum=0
    )
    delta_ms: int = _setting(250, "A streaming turn is written to the spool at least this often (ms).", minimum=20)
    shutdown_seconds: float = _setting(3.0, "Longest time a stop may take.")
    poll_ms: int = _setting(200, "How often the worker looks at the spool (ms).", minimum=10)
    batch_turns: int = _setting(256, "Turns in one database transaction at the most.", minimum=1)
    encrypt_content: bool = _setting(
        False, "Whether content is encrypted in the database (AES-GCM); texts cannot be searched then."
    )
    content_keys: Callable[..., Any] | None = _setting(
        None,
        "Callable (or `module:function`) that gives content keys, of a KMS for example: asked with a key id, or None "
        "for the one that writes now, it answers (id of up to 8 characters, 32 bytes). None: keys of `secret_key`.",
    )
    redaction_seconds: float = _setting(2.0, "Longest time one text may take to redact; past it, it is withheld.")
    log_level: str = _choice(
        "warning",
        "Level of the `turntrace` logger in the worker process.",
        "debug",
        "info",
        "warning",
        "error",
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _coerce(item, getattr(self, item.name)))
        _check(self)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Settings from `TURNTRACE_*` variables; `overrides` win.

        Raises:
            SettingsError: a variable names no setting, or a value is unusable.
        """
        source = os.environ if environ is None else environ
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in source.items():
            if not name.startswith(PREFIX) or name.startswith(_FOREIGN):
                continue
            key = name[len(PREFIX) :].lower()
            if key not in known:
                raise SettingsError(f"{name}: there is no such setting; known: {', '.join(sorted(known))}")
            values[key] = text
        return cls.of(**{**values, **overrides})

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """Like the constructor, but an unknown key raises `SettingsError` with the known ones."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SettingsError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**values)

    def wire(self) -> dict[str, Any]:
        """The settings as JSON values for the worker process, secrets in clear, callables left out.

        `Settings.of(**wire)` is the way back. It belongs on a pipe to our own child and nowhere else.
        """
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _CALLABLES}
        if self.content_keys is not None:
            found["content_keys"] = _name_of("content_keys", self.content_keys)
        return {name: _wired(value) for name, value in found.items() if value is not None}

    def destinations(self) -> tuple[Destination, ...]:
        """Where stored turns are sent on to.

        Raises:
            SettingsError: the file that `export_to` names cannot be read, or says what cannot be.
        """
        found = _destinations(self.export_to.reveal()) if self.export_to else ()
        for item in found:
            if not self.may_call(urlsplit(item.url).hostname or ""):
                raise _fail("export_to", f"{item.host} is not among outgoing_hosts")
        return found

    def content_stores(self) -> dict[str, Secret]:
        """URLs of the databases where content lies, by environment."""
        return _content_stores(self.content_urls.reveal()) if self.content_urls else {}

    def content_hosts(self) -> dict[str, tuple[str, ...]]:
        """Hosts of those databases, by environment; none where it is a file, or a socket of this host."""
        return {name: hosts(url.reveal()) for name, url in self.content_stores().items()}

    def report_addresses(self) -> tuple[str, ...]:
        """Where reports go; none where none are sent. They may hold secrets."""
        if self.report_every == "none" or self.report_to is None:
            return ()
        return tuple(address.strip() for address in self.report_to.reveal().split(",") if address.strip())

    def may_call(self, host: str) -> bool:
        """Whether Turntrace itself may call this host."""
        name = host.lower().rstrip(".")
        return not self.outgoing_hosts or any(fnmatchcase(name, wanted.lower()) for wanted in self.outgoing_hosts)

    def retention(self) -> dict[str, int]:
        """Days by kind: keys `content` and `numbers`."""
        return {kind: rule.days for kind, rule in _retention(self.retention_days).items() if kind in RETENTION_KINDS}

    def retention_rules(self) -> dict[str, RetentionRule]:
        """Rules by kind: `content` and `numbers`."""
        return _retention(self.retention_days)


# Variables under our prefix that are not settings: test and tool switches.
_FOREIGN: Final = ("TURNTRACE_TEST_", "TURNTRACE_FAIL_POINTS")
_CALLABLES: Final = frozenset({"session_id", "user_id", "panel_auth", "content_keys"})
_SECRETS: Final = frozenset(
    {"database_url", "content_urls", "evaluator_database_url", "secret_key", "panel_password", "export_to", "report_to"}
)
_LISTED: Final = frozenset({"secret_key", "report_to"})  # secrets that may be several, with commas between them
_TRUE: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _wired(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    return str(value) if isinstance(value, Decimal) else value


def _fail(name: str, what: str) -> SettingsError:
    return SettingsError(f"{name}: {what} (setting {PREFIX}{name.upper()})")


def _coerce(item: "Field[Any]", value: Any) -> Any:
    """Bring a value (often text from the environment) to the type of its setting."""
    name = item.name
    if value is None or (value == "" and item.default is None):
        return item.default  # None says nothing: `redaction=None` must not mean less than the default
    if name in _SECRETS:
        return value if isinstance(value, Secret) else Secret(_secret_text(name, value))
    if name in _CALLABLES:
        return _load_callable(name, value)
    if isinstance(item.default, bool):
        return _bool(name, value)
    if isinstance(item.default, tuple):
        return _texts(name, value)
    if isinstance(item.default, (int, float, Decimal)):
        return _number(item, value)
    return _text(item, value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, Mapping) or not isinstance(parts, Iterable):
        raise _fail(name, "expected a list of texts, or one text with commas between them")
    found = tuple(parts)
    if not all(isinstance(part, str) for part in found):
        raise _fail(name, "expected texts in the list")
    return tuple(part.strip() for part in found if part.strip())


def _secret_text(name: str, value: Any) -> str:
    """Lists, mappings and URL objects, which Python code may give, as the text that a variable would hold."""
    if name in _LISTED and isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if hasattr(value, "render_as_string"):  # SQLAlchemy's URL, which shows no password by itself
        return str(value.render_as_string(hide_password=False))
    return json.dumps(value) if isinstance(value, (list, tuple, dict)) else str(value)


def _destinations(text: str) -> tuple[Destination, ...]:
    try:
        found = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        return read_destinations(found)
    except (OSError, UnicodeDecodeError) as error:
        raise _fail("export_to", f"the file cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        raise _fail("export_to", str(error)) from None


def _content_stores(text: str) -> dict[str, Secret]:
    """`name=url,…` as a variable holds it, or JSON. The text holds passwords: nothing of it is shown."""
    given = _as_object(text) if text.lstrip().startswith("{") else _as_list(text)
    if not given or not all(isinstance(url, str) and url.strip() for _, url in given):
        raise _fail("content_urls", "expected environment=URL,environment=URL")
    if not all(_ENVIRONMENT_NAME.match(name) for name, _ in given):
        raise _fail("content_urls", "expected the name of an environment before each URL, as `environment` takes it")
    found = {name: Secret(url.strip()) for name, url in given}
    if len(found) < len(given):
        raise _fail("content_urls", "an environment is named twice")
    return found


def _as_object(text: str) -> list[tuple[str, Any]]:
    try:
        found = json.loads(text, object_pairs_hook=list)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _as_list(text: str) -> list[tuple[str, Any]]:
    """Pairs, where the whole text consists of them; else none."""
    found, at = [], 0
    while at < len(text):
        pair = _STORE.match(text, at)
        if pair is None or _NEXT_STORE.search(pair[2]):
            return []
        found.append((pair[1], pair[2]))
        at = pair.end()
    return found


def _bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _TRUE[str(value).strip().lower()]
    except KeyError:
        raise _fail(name, f"expected 1/0, true/false, yes/no or on/off, got {value!r}") from None


def _number(item: "Field[Any]", value: Any) -> Any:
    kind: Callable[[str], Any] = type(item.default)
    try:
        number = kind(str(value).strip())
    except (ValueError, InvalidOperation):
        raise _fail(item.name, f"expected a number, got {value!r}") from None
    if not Decimal(number).is_finite() or number < item.metadata.get("minimum", 0):
        raise _fail(item.name, f"must be finite and at least {item.metadata.get('minimum', 0)}, got {value!r}")
    return number


def _text(item: "Field[Any]", value: Any) -> str:
    text = str(value).strip()
    choices = item.metadata.get("choices")
    if choices and text not in choices:
        raise _fail(item.name, f"expected one of {', '.join(choices)}, got {text!r}")
    return text


def _load_callable(name: str, value: Any) -> Callable[..., Any]:
    if callable(value):
        return value  # type: ignore[no-any-return]
    module, _, attribute = str(value).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise _fail(name, f"cannot import {value!r}; write `module:function`") from error
    if not callable(found):
        raise _fail(name, f"{value!r} is not callable")
    return found  # type: ignore[no-any-return]


def _name_of(name: str, function: Callable[..., Any]) -> str:
    """`module:function` of a callable that another process of ours must import."""
    text = f"{function.__module__}:{getattr(function, '__qualname__', '')}"
    try:
        if _load_callable(name, text) is function:
            return text
    except SettingsError:
        pass
    raise _fail(name, "with worker=process it must be a function that can be imported: write `module:function`")


def _retention(text: str) -> dict[str, RetentionRule]:
    try:
        return parsed_retention(text)
    except ValueError as error:
        raise _fail("retention_days", f"expected {error}, got {text!r}") from None


def _check(settings: Settings) -> None:
    """Rules between settings, and forms that types cannot tell."""
    if settings.secret_key and any(len(key) < 32 for key in settings.secret_key.reveal().split(",")):
        raise _fail("secret_key", "each key needs 32 characters or more")
    if settings.content == "full" and settings.redaction != "off":
        raise _fail("content", "`full` stores unredacted text and needs redaction=off set by hand as well")
    if settings.encrypt_content and settings.archive_dir:
        raise _fail("archive_dir", "archived turns are not encrypted: it cannot be used with encrypt_content")
    if settings.encrypt_content and not (settings.secret_key or settings.content_keys):
        raise _fail("encrypt_content", "needs secret_key, alike on every host, or content_keys")
    for rule in settings.content_rules:
        if not _CONTENT_RULE.match(rule):
            raise _fail("content_rules", f"expected environment|route|feature|tag:pattern=mode, got {rule!r}")
        if rule.endswith("=full") and not settings.allow_unredacted:
            raise _fail(
                "content_rules", "`full` stores unredacted text and needs allow_unredacted=1 set by hand as well"
            )
    unknown = sorted(set(settings.national_ids) - NATIONS)
    if unknown:
        raise _fail("national_ids", f"no recogniser for {', '.join(unknown)}; known: {', '.join(sorted(NATIONS))}")
    for rule in settings.redaction_rules:
        if not _RULE.match(rule):
            raise _fail("redaction_rules", f"expected [/route/*:]field[.key]=keep|withhold|hash, got {rule!r}")
    if settings.redaction == "ner" and not settings.ner_model:
        raise _fail("ner_model", "redaction=ner needs the import name of a spaCy model")
    if not 0 <= settings.sample_rate <= 1:
        raise _fail("sample_rate", f"expected 0..1, got {settings.sample_rate}")
    for stated in settings.dimensions:
        try:
            parsed_dimension(stated)
        except ValueError as error:
            raise _fail("dimensions", str(error)) from None
    for stated in settings.host_links:
        try:
            parsed_link(stated)
        except ValueError as error:
            raise _fail("host_links", str(error)) from None
    if settings.success_score and not _SCORE.match(settings.success_score):
        raise _fail("success_score", f"expected name, name=value, name>=4, got {settings.success_score!r}")
    for stated in settings.sample_rates:
        if not _SAMPLE_RATE.match(stated):
            raise _fail("sample_rates", f"expected feature:NAME=0.1, route:/PATH=0.5 or tenant:NAME=1, got {stated!r}")
    if not _ENVIRONMENT_NAME.match(settings.environment) or settings.environment.startswith("turntrace"):
        raise _fail("environment", "lower case letters, digits, - and _, at most 40, not beginning with turntrace")
    if len(settings.rollup_tags) > 5:
        raise _fail("rollup_tags", "at most five keys")
    if settings.panel_password and len(settings.panel_password.reveal()) < 12:
        raise _fail("panel_password", "needs 12 characters or more")
    if bool(settings.panel_user) != bool(settings.panel_password):
        raise _fail("panel_user", "panel_user and panel_password go together")
    _retention(settings.retention_days)
    _check_stores(settings)
    if settings.export_to and not settings.export_to.reveal().startswith("@"):
        settings.destinations()  # a file is read when it is used: settings touch no disk
    if settings.trusted_context not in ("all", "none"):
        _networks("trusted_context", settings.trusted_context.split(","))


def _check_stores(settings: Settings) -> None:
    """Stores are databases, on hosts that may be called. What is wrong is said without any of the URL."""
    for environment, url in settings.content_stores().items():
        try:
            found, is_elsewhere = hosts(url.reveal()), names_hosts_elsewhere(url.reveal())
        except ValueError:
            what = f"expected SQLAlchemy URLs such as postgresql://user@host/name, not that of {environment}"
            raise _fail("content_urls", what) from None
        if not all(map(settings.may_call, found)):
            raise _fail("content_urls", f"a host of {environment} is not among outgoing_hosts")
        if is_elsewhere and settings.outgoing_hosts:
            raise _fail("content_urls", f"with outgoing_hosts the URL of {environment} itself must name its host")


def _networks(name: str, parts: list[str]) -> None:
    for part in parts:
        try:
            ipaddress.ip_network(part.strip(), strict=False)
        except ValueError:
            raise _fail(name, f"expected all, none or networks such as 10.0.0.0/8, got {part.strip()!r}") from None
