"""Cheap linear tests that tell which recognisers could find anything in a text at all. No Presidio here.

A test may say yes for nothing, but never no where a recogniser that names it would find something: with the tests left
out the findings are the same (checked in the tests over every fixture).
"""

import re
from typing import Final


class Sign:
    """What a text shows, as bits; a recogniser is asked only where one of its signs is there."""

    AT: Final = 1  # an at sign, plain or escaped
    DIGITS: Final = 2  # six or more digits, with at most three separators between two of them
    EIGHT: Final = 4  # eight or more digits, with at most one separator between two of them
    TWELVE: Final = 8  # twelve or more
    IBAN: Final = 16  # two capitals, two digits and eight more
    INTERNET: Final = 32  # groups between dots or colons, as in internet and hardware addresses
    LONG: Final = 64  # a word of 14 characters or more that may be a key
    SECRET: Final = 128  # a word such as password or token
    URL: Final = 256  # :// or www.
    NUMBERED: Final = 512  # a word such as account or passport, and a number
    PLACE: Final = 1024  # a number before a capital, a word of streets and a digit, or "corner of"
    NAME: Final = 2048  # a word that announces a name
    MASKED: Final = 4096  # X or * in place of digits
    LEAD: Final = 8192  # words such as "located at", and a digit
    ALL: Final = 16383
    UNREAD: Final = 0xFFFFFFFF  # nobody has looked yet


_DIGIT: Final = re.compile(r"\d")
_DIGITS: Final = re.compile(r"\d(?:[^\w\n]{0,3}\n?[^\w\n]{0,2}\d){5}")
_EIGHT: Final = re.compile(r"\d(?:[^\w\n]?\d){7}")
_TWELVE: Final = re.compile(r"\d(?:[ -]?\d){11}")
_NUMBER: Final = re.compile(r"\d(?:\W?\d|[^\W\d_]{1,3}\d){2}|\d[/. -]\d")
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2}")
_INTERNET: Final = re.compile(r"\d\.\d{1,3}\.\d|::|[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:")
_HARDWARE: Final = re.compile(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}\1|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.")
_MASKED: Final = re.compile(r"[Xx*#•]{3}-[Xx*#•]{2}-\d")
_ANNOUNCES: Final = re.compile(
    r"(?i:name)(?i: is|['’]s|:|\?|[ \t]+:)|(?i:calls? me|called)|(?im:^[ \t>*-]*(?:patient|passenger|guest)[ \t]*:)"
)
_TITLES: Final = ("Mr", "Ms", "Mx", "Miss", "Dr", "Prof", "Herr", "Frau", "Mme")
_TITLED: Final = re.compile(r"(?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Herr|Frau|Mme)\.?[ \t]{1,2}[^\W\d_a-z]")
_SECRETS: Final = (
    "passw", "passc", "passp", "pass w", "pass-w", "pass_w", "passe", "pwd", "secret", "token", "key", "bearer",
    "basic ", "credential", "cookie", "kennwort", "contrase", "senha", "wachtwoord", "has\u0142o",
    "\u043f\u0430\u0440\u043e\u043b\u044c", "otp", "cvv", "cvc", " code", "session", "sid=", "sid:", "one-time p",
    "one time p",
)  # fmt: skip
_PIN: Final = re.compile(r"(?<![^\W\d_])pin(?![^\W\d_])")
_NUMBERED: Final = re.compile(
    r"(?<![a-z])(?:acc(?:ounts?|t)?|a/c|iban|bank|routing|aba|sort|swift|bic|wire|transfer|passports?|licen|permit|lic|c?dls?|"
    r"driv|tax|steuer|a?tin|itin|ein|vat|pan|a+dha|voter|ssn|social|insur|polic|members?|patient|customer|client|employee|"
    r"student|medic|health|mrn|users?|id|identi|dob|d\.?o\.?b|birth|born|vin|nhs|nin|nino|sin|curp|cpf|dni|ni[ef]|national|"
    r"tribal|personal|benefic|subscrib|citizen|resident|military|registration|imei|dea|prescri|certif)"
)
_STREETS: Final = re.compile(
    r"(?<![^\W\d_])(?:street|avenue|boulevard|road|st|ave|blvd|rd|rue|avenida|via|viale|calle|r[u\u00fa]a|plaza|piazza|corso|vicolo|"
    r"ulica|carrer|camino|paseo|strada|largo|pra\u00e7a|postfach|apartado|postbus)(?![^\W\d_])|\bbox\b|"
    r"(?:stra\u00dfe|strasse|gasse|gade|vej|v\u00e4gen|gatan|katu|laan|straat|weg|platz|allee|veien|vegen|utca)\s"
)
_LEADS: Final = (
    "address", "locat", "live", "living", "resid", "staying", "sent", "return", "taxi", "cab ", "ride ", "deliver",
    "ship", "mail", "moved", "off ", "come ", "it to", "it at", "up at", "up to", "side of", "here they are",
    "the following",
)  # fmt: skip
_LEAD: Final = re.compile(
    r"address|here they are|the following|side of\s|(?:located|lives?|living|resid(?:e|es|ed|ing)|staying)\sat\s|"
    r"(?:sent|return|taxi|cab|ride|deliver(?:ed|y)?|ship(?:ped)?|mail(?:ed)?|moved|off|come|it|me up|us up)"
    r"\s(?:to|at)[:\s]"
)
# A number before a capital, a flat number, or a state before a postal code.
_PLACE: Final = re.compile(
    r"\d[A-Za-z]?[ \t]{1,4}(?:\d{1,6}[ \t]{1,4})?(?![AaPp][Mm]\b)[^\W\d_a-z]|[A-Z]{2}\s{1,2}\d{5}|"
    r"(?i:apt|apartment|suite|ste|unit|flat|room|floor|bldg|building)\.?\s{0,2}#?\s?\d"
)


def read_signs(text: str) -> int:
    """The signs a text shows, as bits of `Sign`; 0 where no recogniser needs to be asked."""
    lower = text.lower()
    signs = 0
    if "@" in text or "%40" in text or "0040" in text or "#64" in text or "at]" in lower or "at)" in lower:
        signs |= Sign.AT
    if "://" in text or "www." in lower or ("." in text and ("/" in text or "=" in text)):
        signs |= Sign.URL
    if _holds_one(lower, _SECRETS) or ("pin" in lower and _PIN.search(lower)):
        signs |= Sign.SECRET
    if ("name" in lower or "call" in lower or ":" in text) and _ANNOUNCES.search(text):
        signs |= Sign.NAME
    if not signs & Sign.NAME and _holds_one(text, _TITLES) and _TITLED.search(text):
        signs |= Sign.NAME
    if "corner of" in lower:
        signs |= Sign.PLACE
    if len(text) >= 14 and max(map(len, text.split()), default=0) >= 14:
        signs |= Sign.LONG
    if "::" in text or text.count(":") > 2 or text.count("-") > 2 or text.count(".") > 1:
        signs |= _addresses(text)
    return signs | _digits(text, lower) if _DIGIT.search(text) else signs


def _addresses(text: str) -> int:
    return Sign.INTERNET if _INTERNET.search(text) or _HARDWARE.search(text) else 0


def _digits(text: str, lower: str) -> int:
    signs = 0
    if _DIGITS.search(text):
        signs |= Sign.DIGITS
        if _EIGHT.search(text):
            signs |= Sign.EIGHT | (Sign.TWELVE if _TWELVE.search(text) else 0)
        if _IBAN.search(text):
            signs |= Sign.IBAN
    if _NUMBER.search(text) and _NUMBERED.search(lower):
        signs |= Sign.NUMBERED
    if _PLACE.search(text) or _STREETS.search(lower):
        signs |= Sign.PLACE
    if _holds_one(lower, _LEADS) and _LEAD.search(lower):
        signs |= Sign.LEAD
    if "-" in text and _MASKED.search(text):
        signs |= Sign.MASKED
    return signs


def _holds_one(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 - a generator takes twice as long, and this is run for every text
        if word in text:
            return True
    return False
