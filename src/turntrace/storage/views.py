"""Filters of a list that people keep under a name, for themselves or for everybody."""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, or_, select, update

from turntrace.errors import InvalidInput, NotFound
from turntrace.storage import tables

MOST_NAME: Final = 100
MOST_QUERY: Final = 4_000
MOST_VIEWS: Final = 100  # of one person and page

_v = tables.saved_view.c


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A kept list: `query` is the query string of its page."""

    id: str
    page: str
    name: str
    query: str
    author: str | None
    is_shared: bool


def save(
    connection: Connection, page: str, name: str, query: str, *, author: str, is_shared: bool, now_us: int
) -> View:
    """Keep a list under a name; one of the same name by the same person is replaced.

    Raises:
        InvalidInput: the name or the query is empty or too long, or there are too many.
    """
    if not 0 < len(name) <= MOST_NAME:
        raise InvalidInput(f"name: 1 to {MOST_NAME} characters", field="name")
    if not 0 < len(query) <= MOST_QUERY:
        raise InvalidInput("Narrow the list first: there is nothing to keep.", field="query")
    theirs = (_v.page == page, _v.author == author)
    known = connection.execute(select(_v.id).where(*theirs, _v.name == name)).scalar()
    if known is not None:
        values = {"query": query, "is_shared": is_shared}
        connection.execute(update(tables.saved_view).where(_v.id == known).values(values))
    else:
        number = connection.execute(select(func.count()).select_from(tables.saved_view).where(*theirs)).scalar_one()
        if number >= MOST_VIEWS:
            raise InvalidInput(f"There are {MOST_VIEWS} already: remove one first.", field="name")
        known = secrets.token_hex(16)
        row = {"id": known, "page": page, "name": name, "query": query, "author": author, "is_shared": is_shared}
        connection.execute(tables.saved_view.insert().values({**row, "created_at_us": now_us}))
    return View(id=known, page=page, name=name, query=query, author=author, is_shared=is_shared)


def remove(connection: Connection, view_id: str, *, author: str | None) -> None:
    """Forget a view.

    Args:
        author: only one of this person's; None: anybody's.

    Raises:
        NotFound: there is none that they may remove.
    """
    gone = delete(tables.saved_view).where(_v.id == view_id)
    if not connection.execute(gone if author is None else gone.where(_v.author == author)).rowcount:
        raise NotFound("There is no such view of yours.")


def list_views(connection: Connection, page: str, author: str) -> list[View]:
    """The views of a page that this person may use, their own first."""
    usable = or_(_v.author == author, _v.is_shared.is_(True))
    statement = select(tables.saved_view).where(_v.page == page, usable).order_by(_v.name, _v.id)
    names = ("id", "page", "name", "query", "author", "is_shared")
    rows = connection.execute(statement.limit(2 * MOST_VIEWS)).mappings()
    found = [View(**{name: row[name] for name in names}) for row in rows]
    return sorted(found, key=lambda view: view.author != author)
