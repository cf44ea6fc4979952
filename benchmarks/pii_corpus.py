"""Labelled texts for `benchmarks.pii`: the fixture files, secrets made up here, and chat traffic."""

import base64
import json
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"
# The names of several sources brought together. Types that are not here are labelled, but left alone on purpose.
TYPES = {
    "EMAIL_ADDRESS": "e-mail", "EMAIL": "e-mail",
    "PHONE_NUMBER": "phone", "PHONE": "phone",
    "CREDIT_CARD": "credit card",
    "IBAN_CODE": "IBAN", "IBAN": "IBAN",
    "US_SSN": "US SSN", "SSN": "US SSN",
    "IP_ADDRESS": "IP address",
    "PASSWORD": "password", "API_KEY": "API key", "JWT": "API key", "PRIVATE_KEY": "API key",
    "STREET_ADDRESS": "street address",
    "DOMAIN_NAME": "web address",
    "ACCOUNT": "account", "ACCOUNT_NUMBER": "account", "BANK_ACCOUNT": "account", "BANK_ACCOUNT_NUM": "account",
    "ROUTING_NUMBER": "account",
    "PASSPORT": "passport", "PASSPORT_NUM": "passport",
    "DRIVER_LICENSE": "driver's licence", "LICENSE": "driver's licence",
    "TAX_ID": "tax id", "TAXID": "tax id", "PAN": "tax id",
    "PATIENT_ID": "other id", "INSURANCE_ID": "other id", "PID": "other id", "AADHAR": "other id",
    "USER_ID": "other id", "USERID": "other id", "USERNAME": "other id",
    "PERSON": "person",
}  # fmt: skip
NUMBERS = frozenset({"account", "passport", "driver's licence", "tax id", "other id"})
STRICT = frozenset({"e-mail", "IBAN", "credit card", "US SSN", "API key", "password"})  # none of these may leak


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` is personal data; `kind` is None where redactors may leave it alone."""

    start: int
    end: int
    kind: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A text and all that is labelled in it."""

    text: str
    spans: tuple[Span, ...]


def labelled(paths: Sequence[Path], added: Path | None) -> list[Row]:
    """Rows of JSON lines files with `text` and `spans`; `added` holds further labels by row id."""
    extra: dict[str, list[dict[str, object]]] = {}
    for item in _lines(added) if added else ():
        extra.setdefault(str(item["id"]), []).append(item)
    rows = []
    for path in paths:
        for row in _lines(path):
            spans = [*row["spans"], *extra.get(str(row.get("id")), [])]
            rows.append(Row(row["text"], tuple(Span(s["start"], s["end"], TYPES.get(s["type"])) for s in spans)))
    return rows


def secrets(count: int = 120, seed: int = 5) -> list[Row]:
    """Sentences with made-up keys, tokens and passwords, the same for the same seed."""
    chance = random.Random(seed)
    return [_secret(chance, index) for index in range(count)]


def sessions(path: Path) -> list[list[str]]:
    """The messages of each conversation."""
    return [[message["content"] for message in row["messages"]] for row in _lines(path)]


def _lines(path: Path) -> Iterator[dict[str, object]] | Iterator:  # type: ignore[type-arg]
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


_FRAMES = (
    "My key is {} and it stopped working.", "OPENAI_API_KEY={}",
    "curl -H 'Authorization: Bearer {}' https://api.example.com",
    "Here is the token: {}", '{{"api_key": "{}"}}', "export SECRET_KEY={} # do not commit",
    "We leaked {} in the log yesterday.",
)  # fmt: skip
_PASSWORD_FRAMES = (
    "password: {}", "my password is {}", "Login with user anna, pwd={}", "The password was '{}' last week.",
    '"password": "{}"', "please reset passwd: {} for me", "DB_PASSWORD={}",
    "postgres://app:{}@db.internal/prod", "Passwort: {}",
)  # fmt: skip


def _secret(chance: random.Random, index: int) -> Row:
    if index % 3 == 2:
        value = "".join(chance.choices(string.ascii_letters + string.digits, k=9)) + chance.choice("!#$%") + "7"
        return _framed(chance.choice(_PASSWORD_FRAMES), value, "password")
    return _framed(chance.choice(_FRAMES), _key(chance, index), "API key")


def _framed(frame: str, value: str, kind: str) -> Row:
    text = frame.format(value)
    start = text.index(value)
    return Row(text, (Span(start, start + len(value), kind),))


def _key(chance: random.Random, index: int) -> str:
    def letters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return "".join(chance.choices(alphabet, k=count - 2)) + "a7"

    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    made = (
        "sk-" + letters(48), "sk-proj-" + letters(64), "sk-ant-api03-" + letters(60), "ghp_" + letters(36),
        "github_pat_" + letters(60), "xoxb-" + letters(12, string.digits) + "-" + letters(24), "AIza" + letters(35),
        "AKIA" + letters(16, string.ascii_uppercase + string.digits).upper(), "sk_live_" + letters(24),
        "hf_" + letters(34), "glpat-" + letters(20), "SG." + letters(22) + "." + letters(43),
        "npm_" + letters(36),
        f"{head}.{letters(40)}.{letters(43)}", letters(40, string.hexdigits.lower()),
    )  # fmt: skip
    return made[index % (len(made) - 1)] if index % 4 else made[index % len(made)]
