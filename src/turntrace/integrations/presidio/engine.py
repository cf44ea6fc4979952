"""Presidio set up without model, network or noise, and asked only what a text could answer. Imports Presidio."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

os.environ.setdefault("REGEX_TIMEOUT_SECONDS", "1")  # Presidio reads it once, at import

import regex
import tldextract
from presidio_analyzer import EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    CryptoRecognizer,
    IbanRecognizer,
    IpRecognizer,
    MacAddressRecognizer,
    NhsRecognizer,
    UsBankRecognizer,
    UsItinRecognizer,
    UsPassportRecognizer,
    UsSsnRecognizer,
)

from turntrace.integrations.presidio.chosen import chosen_recognizers
from turntrace.integrations.presidio.fold import Folded, Unescaped, is_escaped
from turntrace.integrations.presidio.identity import DriverLicense, identity_recognizers
from turntrace.integrations.presidio.listed import name_of
from turntrace.integrations.presidio.place import name_recognizers, place_recognizers, web_recognizers
from turntrace.integrations.presidio.screen import Sign, read_signs
from turntrace.integrations.presidio.secret import secret_recognizers
from turntrace.pipeline.redact import Entity, Failure, settle

MAX_CHARACTERS: Final = 1_000_000
THRESHOLD: Final = 0.4
_WINDOW: Final = 4_096
_OVERLAP: Final = 384
_SLOW: Final = 0.95  # seconds: a pattern that took so long may have been cut off by Presidio's time limit of one second
_BEFORE: Final = 100  # characters in which the words before a finding are looked for
_CONTEXT_GAIN: Final = 0.35  # as Presidio's own enhancer
_WORDS: Final = regex.compile(r"[^\s\"'‘’“”`(){}\[\]<>,;:!?=]+")

SIGNS: Final = {
    "CreditCardRecognizer": Sign.TWELVE,
    "UsBankRecognizer": Sign.EIGHT,
    "UsLicenseRecognizer": Sign.NUMBERED,
    "UsItinRecognizer": Sign.EIGHT,
    "UsPassportRecognizer": Sign.EIGHT,
    "UsSsnRecognizer": Sign.EIGHT,
    "NhsRecognizer": Sign.EIGHT,
    "CryptoRecognizer": Sign.LONG,
    "IbanRecognizer": Sign.IBAN,
    "IpRecognizer": Sign.INTERNET,
    "MacAddressRecognizer": Sign.INTERNET,
    "EmailRecognizer": Sign.AT,
    "PhoneRecognizer": Sign.DIGITS,
    "PhoneInContext": Sign.DIGITS,
    "CardNumber": Sign.TWELVE,
    "CardInContext": Sign.TWELVE,
    "ListedUsSsn": Sign.EIGHT | Sign.NUMBERED | Sign.MASKED,
    "ListedDateOfBirth": Sign.NUMBERED,
    "ListedIbanCode": Sign.NUMBERED,
    "AccountNumber": Sign.NUMBERED,
    "AccountSpoken": Sign.NUMBERED,
    "Passport_NumberSpoken": Sign.NUMBERED,
    "Driver_LicenseSpoken": Sign.NUMBERED,
    "Tax_IdSpoken": Sign.NUMBERED,
    "Id_NumberSpoken": Sign.NUMBERED,
    "ListedMedicalLicense": Sign.NUMBERED,
    "Passport_NumberNamed": Sign.NUMBERED,
    "Driver_LicenseNamed": Sign.NUMBERED,
    "Tax_IdNamed": Sign.NUMBERED,
    "Id_NumberNamed": Sign.NUMBERED,
    "Bank_AccountNamed": Sign.NUMBERED,
    "ServiceKey": Sign.LONG,
    "KeyInContext": Sign.SECRET,
    "ListedJwt": Sign.LONG,
    "ListedPrivateKey": Sign.SECRET,
    "PasswordAssigned": Sign.SECRET,
    "PasswordSpoken": Sign.SECRET,
    "Pin": Sign.SECRET,
    "UrlCredentials": Sign.URL,
    "PersonalUrl": Sign.URL,
    "UrlParts": Sign.URL,
    "StreetAddress": Sign.PLACE,
    "AddressInContext": Sign.LEAD,
    "AnnouncedName": Sign.NAME,
}
# Their findings may be longer than a window; their patterns are linear, so they are shown the whole text.
_WHOLE: Final = frozenset({"ListedPrivateKey", "ListedJwt", "ServiceKey", "PersonalUrl", "UrlParts", "PhoneRecognizer"})
_MODEL: Final = "NamedEntities"  # has no patterns that could be cut off
_NO_ARTIFACTS: Any = None  # tokens that only Presidio's own context enhancer would need
_ANY, _WHOLE_TEXT, _WINDOWED = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine is built from; plain values, so that it can be sent to another process."""

    languages: tuple[str, ...] = ("en",)
    phone_regions: tuple[str, ...] = ("US", "GB", "DE")
    ner_model: str | None = None
    seconds: float = 2.0  # for one text; past them it counts as not analysed
    national_ids: tuple[str, ...] = ()  # keys of `NATIONS`
    denied: tuple[str, ...] = ()  # words that are always redacted
    allowed: tuple[str, ...] = ()  # findings that are none


class PatternTimeout(Exception):
    """A pattern ran out of time: the text counts as not analysed."""


class _TimeoutAlarm(logging.Handler):
    """Hears what Presidio only logs: that it gave up on a pattern. Records may quote text and go no further."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.has_rung = False

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        if (error is not None and issubclass(error, TimeoutError)) or "timed out" in str(record.msg):
            self.has_rung = True


class Engine:
    """Finds personal data in one text at a time. Not for several threads at once."""

    def __init__(self, config: EngineConfig) -> None:
        _stay_offline()
        self._alarm = _listen()
        self._seconds = config.seconds
        self._deadline = 0.0
        self._allowed = frozenset(word.casefold() for word in config.allowed)
        self.registry = _registry(config)
        self._recognizers = [(SIGNS.get(name_of(item), Sign.ALL), item) for item in self.registry.recognizers]
        self._plans: dict[tuple[int, int], tuple[EntityRecognizer, ...]] = {}

    def analyze(self, text: str, signs: int = Sign.UNREAD) -> list[Entity] | Failure:
        """Entities of a text, settled; a `Failure` if it is too long or any pattern ran out of time.

        Args:
            text: at most a million characters.
            signs: what `read_signs` says of the folded text where that is known; `Sign.ALL` asks every recogniser.
        """
        if len(text) > MAX_CHARACTERS:
            return Failure("too long", is_lasting=True)
        self._deadline = monotonic() + self._seconds
        folded = Folded(text)
        try:
            found = self._search(folded.text, signs)
            if is_escaped(folded.text):
                plain = Unescaped(folded.text)
                found += [plain.restore(entity) for entity in self._search(plain.text, Sign.UNREAD)]
        except (PatternTimeout, TimeoutError):
            return Failure("time limit", is_lasting=True)
        if self._allowed:
            found = [
                item for item in found if folded.text[item.start : item.end].strip().casefold() not in self._allowed
            ]
        return [folded.restore(entity) for entity in settle(found)]

    def _search(self, text: str, signs: int) -> list[Entity]:
        """Short texts as a whole; longer ones in windows that overlap, and as a whole by what is made for that."""
        if len(text) <= _WINDOW + _OVERLAP:
            return self._ask(text, 0, text, _ANY, signs)
        signs = signs if signs == Sign.ALL else Sign.UNREAD  # those of the whole text do not tell where
        found = self._ask(text, 0, text, _WHOLE_TEXT, signs)
        for start in range(0, len(text), _WINDOW):
            found += self._ask(text[start : start + _WINDOW + _OVERLAP], start, text, _WINDOWED, signs)
        return found

    def _ask(self, part: str, offset: int, text: str, kind: int, signs: int) -> list[Entity]:
        """What the recognisers of a kind find in a part of a text, those only whose signs the part shows."""
        shown = read_signs(part) if signs == Sign.UNREAD else signs
        found: list[Entity] = []
        for recognizer in self._plan(shown, kind):
            found += self._results(recognizer, part, offset, text)
        return found

    def _plan(self, signs: int, kind: int) -> tuple[EntityRecognizer, ...]:
        plan = self._plans.get((signs, kind))
        if plan is None:
            plan = self._plans[signs, kind] = tuple(
                recognizer
                for needed, recognizer in self._recognizers
                if (needed == Sign.ALL or signs & needed)
                and (kind == _ANY or (name_of(recognizer) in _WHOLE) == (kind == _WHOLE_TEXT))
            )
        return plan

    def _results(self, recognizer: EntityRecognizer, part: str, offset: int, text: str) -> list[Entity]:
        started = monotonic()
        if started > self._deadline:
            raise PatternTimeout
        self._alarm.has_rung = False
        results = recognizer.analyze(part, recognizer.supported_entities, _NO_ARTIFACTS)
        is_slow = monotonic() - started > _SLOW and name_of(recognizer) != _MODEL
        if self._alarm.has_rung or is_slow:
            raise PatternTimeout
        return _surest(results or (), recognizer, part, offset, text)


def _surest(
    results: Iterable[RecognizerResult], recognizer: EntityRecognizer, part: str, offset: int, text: str
) -> list[Entity]:
    """The results above the threshold, some of them because a word of the recogniser's context is near.

    The gain is that of Presidio's own enhancer, which looks through every token of the text for each result.
    """
    sure: list[Entity] = []
    context: Sequence[str] | None = None
    for result in results:
        score = float(result.score)
        start, end = offset + result.start, offset + result.end
        if score < THRESHOLD:
            if context is None:
                context = _words_within(recognizer.context or (), text[max(0, offset - _BEFORE) : offset] + part)
            if score + _CONTEXT_GAIN < THRESHOLD or not _has_support(text, start, end, context):
                continue
            score = max(score + _CONTEXT_GAIN, THRESHOLD)
        sure.append(Entity(start, end, result.entity_type, score, name_of(recognizer)))
    return sure


def _words_within(context: Sequence[str], part: str) -> list[str]:
    lower = part.lower()
    return [word for word in map(str.lower, context) if word in lower]


def _has_support(text: str, start: int, end: int, context: Sequence[str]) -> bool:
    """Whether a context word is among the eight words before or the four after. Short ones must be whole words."""
    if not context:
        return False
    words = _WORDS.findall(text[max(0, start - _BEFORE) : start].lower())[-8:]
    words += _WORDS.findall(text[end : end + 48].lower())[:4]
    joined = " ".join(words)
    return any(word in words if len(word) < 4 else word in joined for word in context)


def _registry(config: EngineConfig) -> RecognizerRegistry:
    recognizers: list[EntityRecognizer] = [
        CreditCardRecognizer(),
        UsBankRecognizer(),
        DriverLicense(),
        UsItinRecognizer(),
        UsPassportRecognizer(context=["passport", "travel"]),
        UsSsnRecognizer(),
        NhsRecognizer(),
        CryptoRecognizer(),
        IbanRecognizer(),
        IpRecognizer(),
        MacAddressRecognizer(),
        *identity_recognizers(config.phone_regions),
        *secret_recognizers(),
        *place_recognizers(),
        *web_recognizers(),
        *name_recognizers(),
    ]
    recognizers += chosen_recognizers(config.national_ids, config.denied)
    if config.ner_model:
        recognizers.append(_model(config.ner_model))
    return RecognizerRegistry(recognizers=recognizers, supported_languages=list(config.languages))


def _model(name: str) -> EntityRecognizer:
    from turntrace.integrations.presidio.model import NamedEntities  # only with redaction=ner

    return NamedEntities(name)


def _stay_offline() -> None:
    """Presidio's own e-mail recogniser would fetch the public suffix list; it gets the bundled one."""
    extractor: Any = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.tldextract.TLD_EXTRACTOR = extractor
    tldextract.extract = extractor


def _listen() -> _TimeoutAlarm:
    """Take over Presidio's logger: it writes matched text into its messages."""
    logger = logging.getLogger("presidio-analyzer")
    alarm = _TimeoutAlarm()
    logger.handlers = [alarm]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    return alarm
