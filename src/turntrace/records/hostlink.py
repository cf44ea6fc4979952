"""Deep links into the host's own admin: where a user, a session, a request or a tag of a turn is looked at there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

VALUE: Final = "{value}"
KINDS: Final = ("user", "session", "request", "feature", "release", "experiment")
_NOWHERE: Final = ("", ".", "..")  # the last two would lead up the path
_STATED: Final = re.compile(
    r"(?:(?P<label>[^=@,]{1,40})@)?(?P<kind>user|session|request|feature|release|experiment|tag:[^=@,]{1,100})"
    r"=(?P<url>(?:https?://|/)[^\s,]{1,500})\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLink:
    """A link of one kind of value; `url` has `{value}` where the value goes."""

    label: str
    kind: str
    url: str

    def to(self, value: str) -> str:
        """The address for a value, which can add no path, query or host of its own."""
        return self.url.replace(VALUE, quote(value, safe=""))


def parse(stated: str) -> HostLink:
    """A link as settings state it: `Shop@user=https://shop.example/admin/users/{value}`, `tag:order=/orders/{value}`.

    Raises:
        ValueError: it is stated in another form.
    """
    found = _STATED.match(stated)
    host = found["url"].partition("{")[0] if found else ""
    if found is None or found["url"].count(VALUE) != 1 or not _is_path(host):
        raise ValueError(f"expected [Label@]user|session|request|tag:KEY=https://host/path/{{value}}, got {stated!r}")
    return HostLink(label=(found["label"] or "Open in the application").strip(), kind=found["kind"], url=found["url"])


def _is_path(before: str) -> bool:
    """Whether the value stands behind the host: nobody's id may choose where a link leads."""
    rest = before.partition("://")[2] if "://" in before else before
    return "/" in rest and not before.startswith("//")


def links_of(
    links: Sequence[HostLink], values: Mapping[str, str | None], tags: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Label and address of every link that there is a value for.

    Args:
        values: by kind.
        tags: as turns have them; those written `key:value` can be linked.
    """
    found: list[tuple[str, str]] = []
    for link in links:
        if link.kind.startswith("tag:"):
            prefix = link.kind[4:] + ":"
            linked = [tag[len(prefix) :] for tag in tags if tag.startswith(prefix)]
        else:
            linked = [values.get(link.kind) or ""]
        found += [(link.label, link.to(value)) for value in linked if value not in _NOWHERE]
    return found
