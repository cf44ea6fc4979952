"""The rows that sqladmin lists: it knows mapped classes only, all else of Turntrace reads the tables themselves."""

from sqlalchemy.orm import DeclarativeBase

from turntrace.storage import tables


class Row(DeclarativeBase):
    """A row of one of our tables. Its columns are attributes."""


class AccountRow(Row):
    """A person."""

    __table__ = tables.account


class ApiKeyRow(Row):
    """A key of the REST API."""

    __table__ = tables.api_key


class PriceRow(Row):
    """A price of the operator's own."""

    __table__ = tables.price
