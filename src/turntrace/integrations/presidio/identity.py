"""Recognisers of people and their numbers: cards, accounts, national and other ids, telephones, e-mail."""

from collections.abc import Sequence
from typing import Any, Final

import phonenumbers
import regex
from presidio_analyzer import EntityRecognizer, Pattern, RecognizerResult
from presidio_analyzer.predefined_recognizers import EmailRecognizer, PhoneRecognizer, UsLicenseRecognizer

from turntrace.integrations.presidio.listed import TIMEOUT_SECONDS, ListedRecognizer, digits_in, found_by, is_luhn

_QUOTE: Final = r"[\"'’‘“`(\[#]{0,2}"
_ID_WORD: Final = r"(?:\s{0,3}(?:id|ids|number|numbers|num|no|nr|identification|identifier|code|#)\b\.?){1,3}"
_IS: Final = rf"{_QUOTE}\s{{0,3}}(?:is|was|are|:|=|#|-|–)?\s{{0,3}}{_QUOTE}"
_INNER: Final = r"(?:(?:dl|atin|itin|tin|ein|id|no|acc|nr)\b\s{0,2}[:.#]?\s{0,2})?"
_VALUE: Final = r"\K(?=[A-Z0-9/.-]{0,16}\d)[A-Z0-9]{1,24}+(?:[-/.][A-Z0-9]{1,24}+){0,5}"

_ACCOUNT: Final = (
    r"(?<![A-Z])(?:accounts?|acct|a/c|acc(?=\s{0,2}[:#.]))(?:\s{1,3}(?:holder|details?|like|such as|under|of)){0,3}"
)
_ENDING: Final = r"(?:\s{1,3}(?:number|no\.?))?\s{1,3}(?:ending|ends)(?:\s{1,3}(?:in|with|on))?\s{1,3}" + _QUOTE
_NOUNS: Final = {
    "PASSPORT_NUMBER": r"passports?",
    "DRIVER_LICENSE": r"(?:driver['’]?s?|driving)\s{1,3}(?:licen[cs]e|permit)|licen[cs]e|permit|dl",
    "TAX_ID": r"tax(?:payer)?(?:\s{1,3}identification)?|tin|itin|ein|atin|vat|steuer",
    "ID_NUMBER": (
        r"patients?|medical(?:\s{1,3}(?:file|record))?|health|medicare|medicaid|mrn|insurance(?:\s{1,3}policy)?|policy|"
        r"members?|customers?|employees?|students?|users?|clients?|voter|national|tribal|personal|identity|"
        r"pan(?:\s{1,3}card)?|aadha{1,2}r|adhaar|identification|id|beneficiary|subscriber|citizen|resident|military|"
        r"nin|nino|nhs|sin|curp|cpf|dni|nie|nif|imei|vin|registration"
    ),
    "BANK_ACCOUNT": r"routing|aba|sort\s{1,3}code|iban|bank|swift|wire",
}
# Nouns that need no "number" or "id" after them where the value itself is long enough.
_SPEAKING: Final = {
    "PASSPORT_NUMBER": r"passport",
    "DRIVER_LICENSE": r"(?:driver['’]?s?|driving)\s{1,3}licen[cs]e|dl",
    "TAX_ID": r"itin|tin|ein|pan",
    "ID_NUMBER": r"ssn|mrn|a+dha{1,2}r|nhs|imei|nino|medicare|medicaid|insurance\s{1,3}policy",
}
_DATE: Final = r"\d{1,4}[/. -]\d{1,2}[/. -]\d{1,4}"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_WORDY_DATE: Final = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH},?\s\d{{4}}|{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}})"
)
# Decimal fractions, dates, spans of years: digits that no telephone is written in.
_NO_PHONE: Final = regex.compile(
    r"-?\d{1,3}\.\d{4,}(?:\s?-\s?-?\d{1,3}\.\d{4,})?|1\d{3}\s?-\s?\d{2}|(?:1\d|20)\d\d\s?[-/]\s?(?:1\d|20)\d\d|"
    r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}(?:\s\d\d)?|\d{1,2}[-./]\d{1,2}[-./](?:19|20)\d\d"
)
_CARD: Final = r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)"
_BRANDS: Final = regex.compile(r"4|5[0-8]|6|2[2-7]|3[0-9]|1800|2131|9792|8600|220[0-4]")
_LOCAL: Final = r"(?<![\w.+%-])[\w](?:[\w.+~!$^*%&-]|(?<=\w)'(?=\w)){0,127}+"
_AT: Final = r"(?:@|%40|\\+u0040|&#64;|\s?[\[(]\s?at\s?[\])]\s?)"


class LinearEmail(EmailRecognizer):
    """Presidio's e-mail recogniser with linear patterns; the top-level domain needs no public suffix list."""

    def __init__(self) -> None:
        dotted = r"(?:[\w][\w-]{0,62}\.){1,8}[^\W\d_][\w-]{1,62}(?<![-_])"
        numeric = r"\[?\d{1,3}(?:\.\d{1,3}){3}\]?"
        local = _LOCAL.replace("{0,127}+", r"{0,127}?")  # lazy: `%40` is made of allowed characters
        super().__init__(
            patterns=[
                Pattern("e-mail", rf"{local}{_AT}(?:{dotted}|{numeric})", 0.9),
                Pattern("quoted e-mail", rf"\"[^\"\s@]{{1,64}}\"@{dotted}", 0.9),
                Pattern("e-mail without a top-level domain", rf"{_LOCAL}@[^\W\d_][\w-]{{1,62}}(?![\w.-]*/)", 0.15),
            ],
            name="EmailRecognizer",
            context=["mail", "upi", "login", "user", "contact", "account", "write", "vpa", "payment", "reach"],
        )

    def validate_result(self, pattern_text: str) -> bool | None:
        """The patterns say all there is to say."""
        return None


class DriverLicense(UsLicenseRecognizer):
    """Presidio's recogniser of driver's licences; four digits at least, and its words must speak of licences."""

    def __init__(self) -> None:
        super().__init__(name="UsLicenseRecognizer", context=["licen", "permit", "lic", "dls", "cdls", "driving"])

    def invalidate_result(self, pattern_text: str) -> bool:
        """Whether a match is too short for a licence number."""
        return len(digits_in(pattern_text)) < 4


class BoundedPhone(PhoneRecognizer):
    """Presidio's telephone recogniser, shown only what looks like a number: its cost is per candidate, not per text."""

    _CANDIDATE: Final = regex.compile(
        r"(?<![\w/])[+(＋]{0,2}\d(?:[^\w\n,;:!?<>|=\"'&@%*#+]{0,3}[\d]){5,16}(?:\s{0,2}(?:x|ext\.?|#)\s{0,2}\d{1,6})?(?!\w)",
        regex.IGNORECASE,
    )
    _LENIENCY: Final = 1  # valid numbers, as Presidio's default
    _MOST: Final = 1_000  # candidates checked in one text; any more are taken at their face value

    def analyze(self, text: str, entities: Sequence[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        """Telephone numbers of the configured regions, and international ones."""
        results: list[RecognizerResult] = []
        checked: dict[str, bool] = {}
        for match in self._CANDIDATE.finditer(text, timeout=TIMEOUT_SECONDS):
            start, end = match.span()
            found = checked.get(match[0])
            if found is None:
                found = checked[match[0]] = len(checked) >= self._MOST or self._is_phone(match[0])
            if found:
                results.append(found_by(self, start, end, self.SCORE))
        return results

    def _is_phone(self, candidate: str) -> bool:
        return not _NO_PHONE.fullmatch(candidate) and any(
            next(iter(phonenumbers.PhoneNumberMatcher(candidate, region, leniency=self._LENIENCY)), None) is not None
            for region in self.supported_regions
        )


def identity_recognizers(phone_regions: Sequence[str]) -> list[EntityRecognizer]:
    """Recognisers of e-mail, telephone, card, account and id numbers."""
    return [
        LinearEmail(),
        BoundedPhone(supported_regions=tuple(phone_regions) or ("US",), name="PhoneRecognizer"),
        *_phones(),
        *_cards(),
        *_numbers(),
        ListedRecognizer(
            "US_SSN",
            [
                (r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", 0.6),
                (r"(?<![\w-])[X*#•]{3}-[X*#•]{2}-\d{4}(?![\w-])", 0.6),
                (r"(?<![A-Z])(?:ssn|social security(?: (?:number|no\.?|#))?)\W{0,4}(?:is|was|number|no)?\W{0,4}"
                 r"\K\d{3}[ .-]?\d{2}[ .-]?\d{4}(?!\w)", 0.8),
                (r"(?<![A-Z])ssn\W{0,3}(?:ends|ending)\s(?:in|with)\s\K\d{4}\b", 0.6),
            ],
        ),
        ListedRecognizer(
            "DATE_OF_BIRTH",
            [
                (rf"(?<![A-Z])(?:date of birth|birth ?date|birthday|d\.?o\.?b\.?)\W{{0,4}}(?:is|was|on)?\s{{0,3}}"
                 rf"\K(?:{_DATE}|{_WORDY_DATE})", 0.7),
                (rf"(?<![(\w])(?:i was|i'm|is|are|was|were) born(?: on)?\s{{0,3}}\K(?:{_DATE}|{_WORDY_DATE})", 0.7),
            ],
        ),
    ]  # fmt: skip


def _phones() -> list[EntityRecognizer]:
    words = ["phone", "tel", "mobile", "cell", "fax", "call", "whatsapp", "dial", "sms", "ring", "handy", "reach me"]
    return [
        ListedRecognizer(
            "PHONE_NUMBER",
            [
                (r"(?<![\w.+-])\+\d{1,3}(?:[\s./-]{0,2}\(?\d{1,5}\)?){2,7}(?![\w])", 0.5),
                (r"(?<![\w.-])(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])", 0.5),
                (r"(?<![\w.+-])\(?\d{1,5}\)?(?:[\s./-]{1,2}\(?\d{1,5}\)?){1,6}(?![\w]|[-.]\d)", 0.08),
                (r"(?<![\w.+-])\d{6,15}(?![\w]|[-.]\d)", 0.06),
            ],
            context=words,
            accept=_is_phone_length,
            name="PhoneInContext",
        )
    ]


def _is_phone_length(text: str) -> bool:
    return 6 <= len(digits_in(text)) <= 15 and not _NO_PHONE.fullmatch(text)


def _cards() -> list[EntityRecognizer]:
    words = ["card", "visa", "mastercard", "amex", "discover", "maestro", "diners", "jcb", "debit"]
    return [
        ListedRecognizer("CREDIT_CARD", [(_CARD, 0.8)], accept=_is_card, name="CardNumber"),
        ListedRecognizer(
            "CREDIT_CARD",
            [(_CARD, 0.1), (r"(?<![\w.-])\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{1,7}(?!\w)", 0.3)],
            context=words,
            name="CardInContext",
        ),
    ]


def _is_card(text: str) -> bool:
    digits = digits_in(text)
    least = 12 if digits[:2] in {"50", "56", "57", "58", "67"} else 13
    return least <= len(digits) <= 19 and bool(_BRANDS.match(digits)) and is_luhn(digits) and len(set(digits)) > 1


def _numbers() -> list[EntityRecognizer]:
    made: list[EntityRecognizer] = [
        ListedRecognizer(
            "BANK_ACCOUNT",
            [
                (rf"{_ACCOUNT}{_ID_WORD}{_IS}{_INNER}{_VALUE}", 0.7),
                (rf"{_ACCOUNT}{_ENDING}{_VALUE}", 0.7),
            ],
            accept=_has_four,
            name="AccountNumber",
        ),
        ListedRecognizer(
            "BANK_ACCOUNT",
            [(rf"{_ACCOUNT}{_IS}{_VALUE}", 0.6)],
            accept=_is_long_number,
            name="AccountSpoken",
        ),
        ListedRecognizer(
            "IBAN_CODE",
            [
                (r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Z0-9])", 0.1),
                (r"(?<![A-Z0-9])[A-Z]{2}\d{2}[ -]?[A-Z0-9]{3,34}+(?:\.{2,3}|…)?", 0.1),
            ],
            context=["iban", "wire", "transfer"],
            accept=_has_four,
        ),
        ListedRecognizer(
            "MEDICAL_LICENSE",
            [(r"(?<![A-Z0-9])[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}(?!\w)", 0.1)],
            context=["dea", "prescri", "medical licen", "certificate"],
        ),
    ]
    for entity, nouns in _SPEAKING.items():
        pattern = rf"(?<![A-Z])(?:{nouns}){_IS}{_INNER}{_VALUE}"
        made.append(ListedRecognizer(entity, [(pattern, 0.6)], accept=_is_long_number, name=f"{entity.title()}Spoken"))
    for entity, nouns in _NOUNS.items():
        pattern = rf"(?<![A-Z])(?:{nouns}){_ID_WORD}{_IS}{_INNER}{_VALUE}"
        made.append(ListedRecognizer(entity, [(pattern, 0.65)], accept=_has_four, name=f"{entity.title()}Named"))
    return made


def _has_four(text: str) -> bool:
    return len(digits_in(text)) >= 4


def _is_long_number(text: str) -> bool:
    digits = digits_in(text)
    if regex.fullmatch(r"(?:19|20)\d\d(?:[-/.]\d{1,2}){0,2}", text):
        return False
    return len(digits) >= 6 or (len(digits) >= 4 and len(digits) < sum(c.isalnum() for c in text))
