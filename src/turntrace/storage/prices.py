"""Prices of the operator's own, in the database."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from turntrace.records.usage import Price
from turntrace.storage import tables


def add(connection: Connection, price: Price) -> bool:
    """Store a price; True where it is new, False where it replaced one of the same model and moment."""
    table = tables.price
    gone = connection.execute(delete(table).where(table.c.id == price.id)).rowcount
    connection.execute(
        insert(table).values(
            id=price.id,
            provider=price.provider,
            model=price.model,
            effective_from_us=price.effective_from_us,
            rates=json.dumps(dict(price.rates_per_mtok), sort_keys=True),
            created_at_us=price.created_at_us,
        )
    )
    return not gone


def list_prices(connection: Connection) -> Sequence[Price]:
    """All prices, by provider, model and date."""
    table = tables.price
    order = (table.c.provider, table.c.model, table.c.effective_from_us)
    return [_price(row) for row in connection.execute(select(table).order_by(*order))]


def remove(connection: Connection, price_id: str) -> bool:
    """Remove a price; False where there is none."""
    return bool(connection.execute(delete(tables.price).where(tables.price.c.id == price_id)).rowcount)


def _price(row: Any) -> Price:
    return Price(
        id=row.id,
        provider=row.provider,
        model=row.model,
        effective_from_us=row.effective_from_us,
        rates_per_mtok=json.loads(row.rates),
        created_at_us=row.created_at_us,
    )
