"""Several fragments of one turn to one: what an interrupted or running turn has shown so far."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from turntrace.records.fragment import Fragment, FrameKind, RawSpan, TurnHeader

_DEFAULTS: Final = {item.name: item.default for item in fields(TurnHeader)}
_GROWING: Final = ("metadata", "feature_flags", "tags", "flags", "received")


def merge(fragments: Sequence[Fragment]) -> Fragment:
    """One fragment of the fragments of one turn, given in the order of writing.

    Later header fields win where they state something; metadata and feature flags merge by key; tags and flags
    unite; `received` of DELTAs is appended, and replaced by a START or END, which are cumulative. Of a span the last
    form wins, but an ended one is never replaced by an open one.

    Raises:
        ValueError: no fragment, or fragments of different turns.
    """
    if not fragments:
        raise ValueError("merge needs at least one fragment")
    if any(fragment.turn.id != fragments[0].turn.id for fragment in fragments):
        raise ValueError("merge takes fragments of one turn")
    if len(fragments) == 1:
        return fragments[0]
    header = _values(fragments[0].turn)
    for fragment in fragments[1:]:
        _update(header, fragment)
    return Fragment(kind=_kind(fragments), turn=TurnHeader(**header), spans=_spans(fragments))


def merge_late(fragments: Sequence[Fragment]) -> list[Fragment]:
    """The fragments, the late ones of each turn merged to one: of spans that end one after the other each comes alone,
    and only together do they show that they describe one call."""
    late: dict[str, list[Fragment]] = {}
    for fragment in fragments:
        if fragment.kind is FrameKind.AMEND:
            late.setdefault(fragment.turn.id, []).append(fragment)
    others = [fragment for fragment in fragments if fragment.kind is not FrameKind.AMEND]
    return [*others, *map(merge, late.values())]


def stated(turn: TurnHeader) -> dict[str, Any]:
    """The header fields that differ from their default: those the fragment says something about."""
    empty: tuple[Any, ...] = (None, {}, ())
    return {name: value for name, value in _values(turn).items() if value not in empty and value != _DEFAULTS[name]}


def _values(turn: TurnHeader) -> dict[str, Any]:
    return {name: getattr(turn, name) for name in _DEFAULTS}


def _update(header: dict[str, Any], fragment: Fragment) -> None:
    later = stated(fragment.turn)
    for name in ("metadata", "feature_flags"):
        header[name] = {**header[name], **later.get(name, {})}
    for name in ("tags", "flags"):
        header[name] = tuple(dict.fromkeys((*header[name], *later.get(name, ()))))
    if "received" in later:
        is_growth = fragment.kind in (FrameKind.DELTA, FrameKind.AMEND)
        header["received"] = (header["received"] or "") + later["received"] if is_growth else later["received"]
    header.update((name, value) for name, value in later.items() if name not in _GROWING)
    # "complete" is the default, so only the kinds that state an outcome may bring it back.
    if fragment.kind in (FrameKind.START, FrameKind.END):
        header["outcome"] = fragment.turn.outcome


def _spans(fragments: Sequence[Fragment]) -> tuple[RawSpan, ...]:
    latest: dict[str, RawSpan] = {}
    for fragment in fragments:
        for span in fragment.spans:
            earlier = latest.get(span.span_id)
            if earlier is None or span.duration_us is not None or earlier.duration_us is None:
                latest[span.span_id] = span
    return tuple(latest.values())


def _kind(fragments: Sequence[Fragment]) -> FrameKind:
    kinds = {fragment.kind for fragment in fragments}
    for kind in (FrameKind.END, FrameKind.START, FrameKind.DELTA):
        if kind in kinds:
            return kind
    return fragments[-1].kind
