"""Recognisers by choice of the operator: national ids, words to redact always, and those of other packages."""

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import presidio_analyzer.predefined_recognizers as predefined
import regex
from presidio_analyzer import EntityRecognizer

from turntrace.integrations.presidio.fold import Folded
from turntrace.integrations.presidio.listed import ListedRecognizer
from turntrace.integrations.presidio.nation import NATIONS

GROUP: Final = "turntrace.recognizers"


def chosen_recognizers(nations: Iterable[str], denied: Sequence[str]) -> list[EntityRecognizer]:
    """The recognisers that settings and installed packages ask for.

    Raises:
        Exception: one of them cannot be made. Then no text is analysed, and every one is withheld.
    """
    found: list[EntityRecognizer] = [
        getattr(predefined, f"{name}Recognizer")() for nation in nations for name in NATIONS[nation]
    ]
    if denied:
        found.append(_deny_list(denied))
    for point in points():
        made = point.load()()
        found += [made] if isinstance(made, EntityRecognizer) else list(made)
    return found


def points() -> tuple[EntryPoint, ...]:
    """The entry points of installed packages: callables that make one recogniser or several."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


def _deny_list(words: Sequence[str]) -> EntityRecognizer:
    """Whole words, the longest first, whatever their case."""
    plain = (Folded(word).text for word in words)  # as the texts are that they are looked for in
    choices = "|".join(regex.escape(word) for word in sorted(plain, key=len, reverse=True))
    return ListedRecognizer("DENIED", [(rf"(?<!\w)(?:{choices})(?!\w)", 1.0)], name="DenyList")
