"""Presidio as the finder of personal data, in a process of its own that can be killed. Nothing imports it early."""

from importlib.metadata import entry_points
from typing import Any

from turntrace.integrations.presidio.analyzer import PresidioAnalyzer
from turntrace.settings import Settings

__all__ = ["PresidioAnalyzer", "build_analyzer"]


def build_analyzer(settings: Settings) -> PresidioAnalyzer | None:
    """The analyser that the settings ask for; None where redaction is off.

    Nothing heavy happens here: Presidio is imported by the analysing process, which starts with the first text that
    needs it or with `warm()`.
    """
    if settings.redaction == "off":
        return None
    order: dict[str, Any] = {
        "languages": list(settings.redaction_languages),
        "phone_regions": list(settings.phone_regions),
        "ner_model": settings.ner_model if settings.redaction == "ner" else None,
        "national_ids": list(settings.national_ids),
        "denied": list(settings.redaction_deny),
        "allowed": list(settings.redaction_allow),
        "asks_always": bool(entry_points(group="turntrace.recognizers")),
    }
    order["seconds"] = settings.redaction_seconds * 0.9  # it gives up by itself before it is killed
    return PresidioAnalyzer(order, seconds=settings.redaction_seconds)
