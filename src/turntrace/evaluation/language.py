"""Which language a text is in: by script, and for Latin script by its most frequent small words. Small and honest:
a text too short or too mixed to tell has no language."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

_SMALL: Final[Mapping[str, frozenset[str]]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the and of to is in that it for was on are with as you be this have not but they from what your can",
        "de": "der die und das ist nicht ich sie es ein eine zu den mit auf für von dem sich auch wie wird bei sind",
        "fr": "le la les et est une des que dans pour vous pas ce qui sur avec au nous il sont mais plus votre je",
        "es": "el la los que y es en una por con para las no del se su al lo como más pero está usted sus",
        "it": "il che di è la per una non con sono del della più anche come nel alla gli questo ma ha dei lo si",
        "pt": "o que e de não uma para com os do da em por mais como mas ao das dos você são se na no está",
        "nl": "de het een en van is dat niet op te in zijn met voor je aan er maar ook om als bij kan uw",
    }.items()
}
_SCRIPTS: Final = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
)
CODES: Final = (*_SMALL, *(code for code, _ in _SCRIPTS))
_WORD: Final = re.compile(r"[^\W\d_]+")
LOOKED_AT: Final = 20_000  # characters
_LEAST_WORDS: Final = 3
_LEAST_SHARE: Final = 0.08  # of a text's words are small words of its language


def detect(text: str) -> str | None:
    """The code of the language (ISO 639-1), or None where it cannot be told."""
    words = _WORD.findall(text[:LOOKED_AT].lower())
    letters = sum(len(word) for word in words)
    if not letters:
        return None
    for code, script in _SCRIPTS:
        # Japanese is mixed with Chinese characters: a fifth of kana is enough to tell.
        if len(script.findall(text[:LOOKED_AT])) / letters > (0.2 if code == "ja" else 0.5):
            return code
    counts = Counter(words)
    hits = {code: sum(counts[word] for word in small) for code, small in _SMALL.items()}
    best, second = sorted(hits, key=lambda code: -hits[code])[:2]
    is_clear = hits[best] >= max(1, _LEAST_SHARE * len(words)) and hits[best] > hits[second]
    return best if is_clear and len(words) >= _LEAST_WORDS else None
