"""Recognisers of where someone lives and can be met on the net, and of names that the words around them announce."""

from typing import Final

import regex
from presidio_analyzer import EntityRecognizer

from turntrace.integrations.presidio.listed import ListedRecognizer

# Case matters here: capitals tell a street from a sentence. What may be written either way stands in (?i:…).
_CAP: Final = r"[\p{Lu}\p{Lt}\p{Lo}][\p{L}\p{M}'’.-]{0,30}"
_ANY: Final = r"\p{L}[\p{L}\p{M}'’.-]{0,30}"
_SP: Final = r"[ \t]{1,4}"
_GAP: Final = r"\s{0,6},?\s{1,12}[>?|]{0,3}[ \t]{0,4}"
_NUMBER: Final = r"(?<![\w.,$€£-])\d{1,6}[A-Za-z]?"
_UNIT: Final = r"(?i:apt|apartment|suite|ste|unit|flat|room|floor|bldg|building)\.?\s{0,2}#?\s?\d{1,5}[A-Za-z]?\b"
_KINDS: Final = (
    "street|streets|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|circle|cir|way|place|pl|terrace|"
    "square|sq|parkway|pkwy|highway|hwy|crescent|cres|close|row|mews|gardens?|trail|trl|loop|plaza|extensions?|parks?|"
    "coves?|pass|path|hills?|heights|grove|walk|quay|wharf|alley|bend|ridge|crossing|expressway|freeway|turnpike|"
    "causeway|esplanade|rise|view|vista|landing|meadows?|glen|springs?|station|junction|streets|common|green"
)
_SHORT: Final = frozenset(
    {"st", "ave", "rd", "blvd", "ln", "dr", "ct", "cir", "pl", "sq", "pkwy", "hwy", "cres", "trl"}
)
_KIND: Final = (
    "(?:" + "|".join(f"{kind.capitalize()}|{kind.upper()}" for kind in _KINDS.split("|")) + r")\b"
    "(?:(?<=" + "|".join(f"{kind.capitalize()}|{kind.upper()}" for kind in sorted(_SHORT)) + r")\.)?"
)
_SMALL: Final = r"(?:street|avenue|boulevard|road|(?:st|ave|blvd|rd)\b\.?)(?!\w)"
_STOP: Final = r"(?!(?:of|the|in|on|to|at|a|an|and|or|more|other|for|from|with|is|are|main)\b)"
_STREET: Final = rf"{_NUMBER}(?:{_SP}\d{{1,6}})?(?:{_SP}{_CAP}){{1,4}}?{_SP}{_KIND}"
_LOWER_STREET: Final = (
    rf"{_NUMBER}{_SP}(?:main|(?:{_STOP}[a-z][a-z'-]{{1,20}}{_SP}){{0,1}}{_STOP}[a-z][a-z'-]{{2,20}}){_SP}{_SMALL}"
)
_EUROPE: Final = (
    r"(?<!\p{L})[\p{L}\p{M}-]{2,30}(?:straße|strasse|gasse|gade|vej|vägen|gatan|katu|laan|straat|weg|platz|allee|"
    r"veien|vegen|utca)\s{1,2}\d{1,5}[A-Za-z]?\b"
)
_LATIN: Final = (
    r"(?<!\p{L})(?:[Rr]ue|[Aa]venida|[Vv]ia|[Vv]iale|[Cc]alle|[Rr][uú]a|[Pp]laza|[Pp]iazza|[Cc]orso|[Vv]icolo|[Uu]lica|"
    r"[Cc]arrer|[Cc]amino|[Pp]aseo|[Ss]trada|[Ll]argo|[Pp]raça)"
    rf"(?:{_SP}(?:de|da|do|di|del|della|la|le|les|des|du|{_CAP})){{1,4}}{_SP}\d{{1,5}}[A-Za-z]?\b"
)
_MILITARY: Final = (
    r"(?<!\w)(?i:(?:psc|cmr|unit)\s{0,2}\d{1,5},?\s{1,3}box\s{0,2}\d{1,6}"
    r"(?:\s{1,3}(?:apo|fpo|dpo)\s{1,2}a[aep]\s{1,2}\d{5}(?:-\d{4})?)?)"
)
_POST_BOX: Final = r"(?<!\w)(?i:p\.?\s?o\.?\s?box|postfach|apartado|postbus)\s{0,2}#?\s?\d{1,7}\b"
_ZIP_LINE: Final = r"(?<![\p{L}])\p{Lu}[\p{L} .'-]{2,30},\s?[A-Z]{2}\s{1,2}\d{5}(?:-\d{4})?\b"
_CORNER: Final = (
    rf"(?:the\s)?corner of\s(?:\d{{1,5}}\s)?{_CAP}(?:{_SP}(?:\d{{1,5}}\.?|{_ANY})){{0,3}}?{_SP}and"
    rf"(?:{_SP}(?:\d{{1,5}}|{_CAP}|de|da|do|di|del)){{1,4}}"
)
# "Koskikatu 25 Apt. 864": in whatever language, a number and a flat number beside it make an address.
_FLAT: Final = (
    rf"(?:{_NUMBER}{_GAP}(?:\d{{1,6}}{_SP})?(?:{_ANY}{_SP}){{1,4}}?|(?<![\p{{L}}]){_CAP}{_SP}(?:{_CAP}{_SP}){{0,3}})"
    rf"\d{{1,6}}{_GAP}{_UNIT}(?:{_GAP}{_UNIT})?"
)
_PLACE_NAME: Final = r"\p{Lu}[\p{L}\p{M}'’-]{1,30}"
_PART: Final = (
    rf"(?:\d{{3,6}}(?:-\d{{3,4}})?\b|nan\b|{_PLACE_NAME}(?:[ ]{_PLACE_NAME}){{0,2}}(?=[ ]?[,\n]|[ ]\d)|{_PLACE_NAME}\b)"
)
_BREAK: Final = r"(?:\s{0,6},\s{0,12}|[ \t]{0,4}\n\s{0,12},?[ \t]{0,8})[>?|]{0,3}[ \t]{0,4}"
_TOWN: Final = (
    rf"(?:{_BREAK}{_PART}(?:[ ]{_PART})?|[ ](?:[A-Z]{{2}}[ ])?\d{{4,6}}(?:-\d{{4}})?\b){{0,5}}"  # after a street
)
_ANY_TOWN: Final = rf"(?:{_GAP}{_PART}){{0,5}}"  # after a flat number nothing but the town follows
_ADDRESS_LEAD: Final = (
    r"(?<!\p{L})(?i:address(?:es)?)(?:\s(?:of|linked|on file|for)\b[^\n.?!:]{0,40}?)?\s{0,3}"
    r"(?:is\b|are\b|to the same\b|to\b|:|=|\?)(?:\s{1,2}(?i:it is|it['’]s|is|the same))?[:\s]{1,12}"
    r"|(?<!\p{L})(?:here they are|the following\?)[:\s]{1,4}"
)
_PLACE_LEAD: Final = (
    r"(?<!\p{L})(?i:located|lives?|living|resid(?:e|es|ed|ing)|staying)\sat\s|(?<!\p{L})(?i:sent|return|taxi|cab|ride|"
    r"deliver(?:ed|y)?|ship(?:ped)?|mail(?:ed)?|moved|off|come|it|me up|us up)\s(?:to|at)[:\s]{1,3}|\bside of\s"
)
_REST: Final = (
    r"(?:(?!\.(?:\s|\Z)|[?!]|\n\n|,? (?:and|or|if|because|for|please|by|in case|which|where|but|so|as|"
    r"when|on|with|that|is|was|has|have|it)\b)"
    r"[^@<>\"|{}\[\]]){4,140}"
)
_CLAUSE: Final = rf"(?:{_ADDRESS_LEAD})\K(?=[^.?!\n]{{0,40}}\d)(?:\d{{1,6}}\b|\p{{Lu}}){_REST}"
_PLACE: Final = (
    rf"(?:{_PLACE_LEAD})\K(?:\d{{2,6}}{_SP}{_ANY}|(?:\p{{Lu}}\p{{Ll}}{{1,20}}{_SP}){{1,3}}\d{{2,5}}\b)(?:{_REST})?"
)

_NAME: Final = r"\p{Lu}[\p{Ll}\p{M}'’-]{1,30}(?:\p{Lu}\p{Ll}{1,30})?"
_PARTICLE: Final = r"(?:[ \t](?:\p{Lu}\.?|van|von|de|da|del|della|bin|al|la|le|der|den|dos|di|du|y)(?!\p{L})){0,2}"
_FULL: Final = rf"{_NAME}{_PARTICLE}(?:[ \t]{_NAME}){{0,3}}(?<!['’-]|['’]s)"
_ANNOUNCED: Final = (
    r"(?<!\p{L})(?i:my (?:full |first |last |given |family )?name is|my name['’]s|i am called|"
    r"(?:first|last|full|maiden|family|middle|given) name(?: is|:|\?)|your (?:first |last |full )?name\?|"
    r"(?:everyone|people|friends|they) calls? me)\s{1,3}"
)
_FIELD: Final = r"(?m:^[ \t>*-]{0,6}(?i:name|full name|patient|passenger|guest)[ \t]{0,3}:[ \t]{1,12})"

_TITLED: Final = r"(?<!\p{L})(?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Herr|Frau|Mme)\.?[ \t]{1,2}"

_PROFILE: Final = (
    r"(?:linkedin\.com/in/|facebook\.com/|fb\.com/|instagram\.com/|(?<![\w.])t\.me/|twitter\.com/|(?<![\w.])x\.com/|"
    r"tiktok\.com/@)\K[\w.%-]{3,64}+"
)
_TELLING: Final = (
    r"e-?mail|user|name|phone|mobile|token|key|secret|sig|signature|password|pwd|code|session|sid|auth|credential|"
    r"address|lat|lon|lng|ssn|dob"
)
_PARAMETER: Final = rf"[?&;][\w.-]{{0,30}}(?:{_TELLING})[\w.-]{{0,30}}=\K[^&\s#\"'<>)]{{1,2048}}+"
_WEB: Final = r"(?<![\w@.-])(?:https?://|www\.)[^\s()<>\"'’”`|]{3,2048}+(?<![.,;:!?])"
_NO_ADDRESS: Final = regex.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|https?:|\d{1,2}(?::\d\d)?\s?(?:am|pm|o'clock)\b|\d+\s?[%$€]", regex.IGNORECASE
)


def place_recognizers() -> list[EntityRecognizer]:
    """Recognisers of postal addresses."""
    return [
        ListedRecognizer(
            "STREET_ADDRESS",
            [
                (rf"(?:{_STREET}|{_LOWER_STREET})(?:{_GAP}{_UNIT}){{0,2}}{_TOWN}", 0.6),
                (rf"{_FLAT}{_ANY_TOWN}", 0.6),
                (rf"(?:{_EUROPE}|{_LATIN})(?:{_GAP}{_UNIT})?", 0.5),
                (_MILITARY, 0.7),
                (_POST_BOX, 0.6),
                (_CORNER, 0.6),
                (_ZIP_LINE, 0.5),
            ],
            flags=regex.MULTILINE,
            name="StreetAddress",
        ),
        ListedRecognizer(
            "STREET_ADDRESS",
            [(_CLAUSE, 0.5), (_PLACE, 0.5)],
            accept=_is_address,
            flags=regex.MULTILINE,
            name="AddressInContext",
        ),
    ]


def web_recognizers() -> list[EntityRecognizer]:
    """Recognisers of what is personal in URLs; the rest of a URL stays readable."""
    words = ["website", "homepage", "blog", "portfolio", "my site", "profile", "home page"]
    return [
        ListedRecognizer("URL", [(_WEB, 0.1)], context=words, name="PersonalUrl"),
        ListedRecognizer("URL", [(_PROFILE, 0.6), (_PARAMETER, 0.6)], name="UrlParts"),
    ]


def name_recognizers() -> list[EntityRecognizer]:
    """Recognisers of names that are announced ("my name is …", "Name: …", "Dr. …"); others need a model."""
    patterns = [(rf"{lead}\K{_FULL}", 0.6) for lead in (_ANNOUNCED, _FIELD, _TITLED)]
    return [ListedRecognizer("PERSON", patterns, flags=0, name="AnnouncedName")]


def _is_address(text: str) -> bool:
    """A clause after "address:" is one only with a number and a capital, and if it is no other thing."""
    if _NO_ADDRESS.match(text):
        return False
    return any(c.isdigit() for c in text) and any(c.isupper() for c in text)
