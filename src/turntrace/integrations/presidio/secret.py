"""Recognisers of secrets: keys of known services, tokens, private keys, passwords in context."""

from collections import Counter
from math import log2
from typing import Final

import regex
from presidio_analyzer import EntityRecognizer

from turntrace.integrations.presidio.listed import ListedRecognizer

_EDGE: Final = r"(?<![A-Za-z0-9_])"
_SERVICES: Final = (
    r"sk-(?:proj-|ant-|svcacct-|admin-|or-|lf-|live-|test-)?[A-Za-z0-9_-]{16,}+",
    r"(?:pk-lf|pplx|gsk|nvapi|tvly|r8|hf|npm|dop_v1|doo_v1|shpat|shpss|shpca|lin_api|lsv2_[ps]t|xai|fw|tgp_v1|rnd|figd|"
    r"glpat|glrt|ntn|secret|sbp|re|pat|key|PMAK|phc|phx|vercel|dckr_pat|whsec|rzp_live|rzp_test|sq0csp|sq0atp|EZAK|"
    r"ATATT|CCIPAT|NRAK|tskey|atlasv1|hvs|hvb)[_-][A-Za-z0-9_-]{16,}+",
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,128}+",
    r"gh[pousr]_[A-Za-z0-9]{16,}+",
    r"github_pat_[A-Za-z0-9_]{20,}+",
    r"xox[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{8,}+",
    r"xapp-[A-Za-z0-9-]{8,}+",
    r"AIza[A-Za-z0-9_-]{20,}+",
    r"ya29\.[A-Za-z0-9_-]{16,}+",
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}+",
    r"SG\.[A-Za-z0-9_-]{16,64}+\.[A-Za-z0-9_-]{16,}+",
    r"pypi-AgE[A-Za-z0-9_-]{16,}+",
    r"xkeysib-[a-f0-9]{16,}+[A-Za-z0-9-]*+",
    r"(?:AC|SK)[0-9a-f]{32}(?![0-9a-f])",
    r"key-[0-9a-f]{32}(?![0-9a-f])",
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}+",
    r"EAA[A-Za-z0-9]{40,}+",
    r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}+",
    r"AGE-SECRET-KEY-1[A-Z0-9]{40,}+",
    r"amzn\.mws\.[0-9a-f-]{20,}+",
    r"[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{30,}+",
)
_HOOK: Final = r"hooks\.slack\.com/services/\K[A-Za-z0-9/_-]{16,}+"
_JWT: Final = rf"{_EDGE}eyJ[A-Za-z0-9_-]{{6,}}+\.[A-Za-z0-9_-]{{6,}}+(?:\.[A-Za-z0-9_-]*+){{0,3}}"
_PRIVATE: Final = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END)[\s\S])*+(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)
# "key", `key`:, key =, key => …: what may stand between the name of a secret and the secret.
_LINK: Final = r"[\"'’`\])]{0,2}\s{0,3}(?:is|was|are|:=|=>|->|=|:|→)?\s{0,3}[\"'‘“`(<]{0,2}"
_STRICT_LINK: Final = r"[\"'’`\])]{0,2}\s{0,3}(?::=|=>|->|={1,3}|:|→)\s{0,3}[\"'‘“`(]{0,2}"
_KEYWORD: Final = (
    r"(?:api[ _-]?key|access[ _-]?key(?:[ _-]?id)?|secret(?:[ _-]?(?:access[ _-]?)?key)?|client[ _-]?secret|"
    r"auth(?:entication|orization)?[ _-]?(?:token|key)|(?:access|refresh|session|id|csrf|bot|personal|service|api)"
    r"[ _-]?token|token|bearer|encryption[ _-]?key|signing[ _-]?key|private[ _-]?key|license[ _-]?key|key|credential|"
    r"cookie|session[ _-]?id|sid(?=[:=]))s?"
)
_VALUE: Final = r"[A-Za-z0-9+/_.~=:-]{12,}+"
_ANNOUNCER: Final = (
    r"(?<![A-Za-z])(?:(?:new|old|temp|temporary|current|user|db|database|root|admin|login|wifi|wi-fi|master|smtp|my|the)"
    r"[ _-])?(?:passwords?|passwd|passphrase|passcode|pass[ _-]?word|pwd|kennwort|passwort|contraseña|mot de passe|"
    r"senha|wachtwoord|hasło|пароль)(?![A-Za-z])"
)
_PIN: Final = r"(?<![A-Za-z])(?:pin(?:[ -]?(?:code|number))?|otp|one[ -]time (?:code|password|passcode)|cvv2?|cvc2?|security code|verification code|2fa code|access code)"  # noqa: E501
_QUOTES: Final = "\"'‘’“”`"
_SIGHTED: Final = regex.compile(r"<[A-Z][A-Z0-9_]*_(?:k[0-9a-f]{8}|h[0-9a-f]{16})>|\[redact|\*{3,}\Z|\$\{|\{\{|%\(")


def secret_recognizers() -> list[EntityRecognizer]:
    """Recognisers of API_KEY, JWT, PRIVATE_KEY and PASSWORD."""
    services = [(f"{_EDGE}(?:{pattern})", 0.9) for pattern in _SERVICES]
    return [
        ListedRecognizer(
            "API_KEY", [*services, (_HOOK, 0.9)], flags=regex.MULTILINE, accept=_is_key, name="ServiceKey"
        ),
        ListedRecognizer(
            "API_KEY",
            [
                (rf"(?<![A-Za-z]){_KEYWORD}(?![A-Za-z]){_LINK}\K{_VALUE}", 0.7),
                (rf"(?<![A-Za-z])(?:bearer|basic|token|apikey)\s{{1,3}}\K{_VALUE}", 0.7),
            ],
            accept=_is_random,
            name="KeyInContext",
        ),
        ListedRecognizer("JWT", [(_JWT, 0.95)], flags=regex.MULTILINE),
        ListedRecognizer("PRIVATE_KEY", [(_PRIVATE, 1.0)], flags=0),
        ListedRecognizer(
            "PASSWORD",
            [
                (rf"{_ANNOUNCER}{_STRICT_LINK}\K[^\s\"'’”`,;]{{3,128}}+", 0.8),
                (
                    rf"{_ANNOUNCER}(?:\s{{1,3}}(?:is|was|of|to|for|as|set|now|reads|be|here)){{0,3}}\s{{0,3}}:?\s{{0,3}}[\"'‘“`]\K[^\"'’”`\n]{{3,64}}(?=[\"'’”`])",
                    0.8,
                ),
            ],
            accept=_is_value,
            name="PasswordAssigned",
        ),
        ListedRecognizer(
            "PASSWORD",
            [
                (
                    rf"{_ANNOUNCER}(?:\s{{1,3}}(?:is|was|to|now|reads|be|of|as|for|set)){{0,3}}\s{{1,3}}\K[^\s\"'’”`,;]{{5,64}}+",
                    0.7,
                )
            ],
            accept=_looks_like_password,
            name="PasswordSpoken",
        ),
        ListedRecognizer("PASSWORD", [(rf"{_PIN}{_LINK}\K\d{{3,8}}\b", 0.7)], name="Pin"),
        ListedRecognizer(
            "PASSWORD", [(r"://\K[^\s/@:\"'<>]{0,128}:[^\s/@\"'<>]{1,256}(?=@)", 0.9)], name="UrlCredentials"
        ),
    ]


def _is_key(text: str) -> bool:
    """Prefixes such as `key-` also begin ordinary names: a key mixes letters and digits."""
    return len(_alphabet(text)) > 1 and not _SIGHTED.search(text)


def _is_random(text: str) -> bool:
    """Whether a value after `token:` is one: letters and digits mixed, and no word, path, date or number."""
    if _SIGHTED.search(text) or (text.count("/") > 3 and text.count("/") * 6 > len(text)):
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * log2(n / len(text)) for n in counts.values())
    return len(_alphabet(text)) > 1 and entropy > 2.8


def _is_value(text: str) -> bool:
    value = text.strip(_QUOTES)
    return not _SIGHTED.search(value) and value.lower() not in _NO_PASSWORDS and any(c.isalnum() for c in value)


def _looks_like_password(text: str) -> bool:
    """A word after "password" is one only if no ordinary word looks like it: a digit, or a mark inside."""
    value = text.strip(_QUOTES).rstrip(".,;:!?)")
    if not _is_value(value) or len(value) < 5 or "://" in value:
        return False
    return any(c.isdigit() for c in value) or any(
        not c.isalnum() and c not in "-'’.…/()" for c in value.strip("-_()[]")
    )


def _alphabet(text: str) -> set[str]:
    """Which kinds of characters a text has: digits and letters."""
    return {"digit" if c.isdigit() else "letter" for c in text if c.isalnum()}


_NO_PASSWORDS: Final = frozenset(
    ["required", "none", "null", "true", "false", "string", "str", "incorrect", "invalid", "missing", "optional",
    "yes", "no", "empty", "undefined", "hidden", "text", "password", "any", "secret", "the", "your", "a", "an",
    "this",
     "must", "should", "my", "please", "and", "or", "is", "not", "enter", "here", "it", "will", "can", "with",
     "for", "you"]
)  # fmt: skip
