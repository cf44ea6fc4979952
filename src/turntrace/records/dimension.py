"""Dimensions of the host's own: a column of a table of its, looked up by what turns name."""

import re
from dataclasses import dataclass
from typing import Final

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_STATED: Final = re.compile(
    rf"(?P<name>{_NAME})=(?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})\.(?P<key>{_NAME})\.(?P<shown>{_NAME})"
    rf"@(?P<by>user|tag:[^=@]{{1,100}})\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A column of the host's. `by` is `user`, or `tag:<declared key>`: what is looked up under the table's key."""

    name: str
    schema: str | None
    table: str
    key: str
    shown: str
    by: str


def parse(stated: str) -> Dimension:
    """A dimension as settings state it: `plan=account.id.plan@user`, `tier=shop.client.code.tier@tag:tenant`.

    Raises:
        ValueError: it is stated in another form.
    """
    found = _STATED.match(stated)
    if found is None:
        raise ValueError(f"expected name=table.key.column@user (or @tag:KEY), got {stated!r}")
    return Dimension(**found.groupdict())
