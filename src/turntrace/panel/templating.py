"""The Jinja environment: everything is escaped; redaction placeholders become chips with their type."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from turntrace.panel import wording
from turntrace.panel.conversation import messages_of, said, tool_call
from turntrace.panel.fold import fold
from turntrace.pipeline.received import text_of
from turntrace.pipeline.redact.tag import number_tags
from turntrace.records.observation import OBSERVATION_TYPES

_PLACEHOLDER: Final = re.compile(r"<([A-Z][A-Z0-9_]{0,39})_(\d{1,6})>")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MODES: Final = {"time": "%d %b %H:%M:%S", "minute": "%d %b %H:%M", "date": "%d %b %Y", "full": "%d %b %Y %H:%M:%S"}


@cache
def environment() -> Environment:
    """The one environment of the process; templates are compiled once."""
    made = Environment(
        loader=PackageLoader("turntrace.panel"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(wording.FILTERS)
    made.filters.update(
        {"content": content, "plain": plain, "utc": utc, "without": without, "said": said, "received": text_of}
    )
    made.globals.update(
        {
            "types": frozenset(OBSERVATION_TYPES),
            "fold": fold,
            "messages_of": messages_of,
            "tool_call": tool_call,
            "percent": wording.percent,
            "change": wording.change,
            "ago": wording.ago,
        }
    )
    return made


@pass_context
def content(context: Context, text: Any) -> Markup:
    """Text of people, inert: markup escaped, control characters visible, placeholders as numbered chips."""
    shown = printable(number_tags(str(text), context["visit"].numbering))
    pieces: list[Markup] = []
    end = 0
    for match in _PLACEHOLDER.finditer(shown):
        pieces.append(escape(shown[end : match.start()]))
        pieces.append(_chip(match[1], match[2]))
        end = match.end()
    pieces.append(escape(shown[end:]))
    return Markup("").join(pieces)


@pass_context
def plain(context: Context, text: Any) -> str:
    """Text of people where no markup can stand (titles): placeholders numbered, control characters visible."""
    return printable(str(number_tags(str(text), context["visit"].numbering)))


def printable(text: str) -> str:
    """The text with control characters and lone surrogates replaced: the page stays valid UTF-8."""
    return _LONE_SURROGATES.sub("\ufffd", _CONTROLS.sub("\ufffd", text))


def _chip(name: str, number: str) -> Markup:
    kind = name.replace("_", " ").lower()
    return Markup('<span class="pii" title="Redacted: {}">{} {}</span>').format(kind, kind, number)


def utc(at_us: int, mode: str = "time") -> str:
    """A time as text in UTC; the browser shows it in the viewer's own zone."""
    return wording.moment(at_us).strftime(_MODES[mode])


def without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The mapping without some keys and without empty values."""
    return {key: value for key, value in mapping.items() if key not in names and value not in (None, "", [], {})}
