"""The few other writes: scores, accounts and sessions, keys, the audit log, prices."""

from dataclasses import replace

import pytest
import stored as s

from turntrace.errors import InvalidInput, NotFound
from turntrace.records.score import Score
from turntrace.records.usage import Price
from turntrace.storage import audit, keys, people, prices, scores, tables
from turntrace.storage.database import Database

SECOND = 1_000_000
SCORE = Score(id="x1", name="thumbs", value=0.1234567890123, data_type="numeric", source="api", turn_id=s.turn_id(1))


def test_a_score_is_new_once_and_replaced_after(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    first = database.transact(scores.upsert, SCORE, now_us=5)
    again = database.transact(scores.upsert, replace(SCORE, value="bad", data_type="categorical"), now_us=9)
    assert (first.is_new, again.is_new) == (True, False)
    (row,) = s.rows(database, "score")
    assert (row["number"], row["text"], row["created_at_us"], row["updated_at_us"]) == (None, "bad", 5, 9)
    assert (row["trace_id"], row["user_id"], row["environment"]) == (f"{1:032x}", "anna", "production")


def test_a_number_is_kept_to_the_last_digit(database: Database) -> None:
    s.write(database, s.end(s.trace(1)))
    database.transact(scores.upsert, SCORE, now_us=5)
    (row,) = s.rows(database, "score")
    assert row["number"] == 0.1234567890123


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": True}, "value"),
        ({"value": "x", "data_type": "boolean"}, "value"),
        ({"data_type": "stars"}, "data_type"),
        ({"source": "dog"}, "source"),
        ({"name": ""}, "name"),
        ({"id": "é"}, "id"),
        ({"turn_id": None}, "trace_id"),
    ],
)
def test_a_score_that_is_not_allowed_names_the_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        scores.check(replace(SCORE, **changes))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_score_needs_its_turn_and_observation(database: Database) -> None:
    with pytest.raises(NotFound):
        database.transact(scores.upsert, SCORE, now_us=1)
    s.write(database, s.end(s.trace(1)))
    with pytest.raises(NotFound):
        database.transact(scores.upsert, replace(SCORE, span_id=s.span_id(77)), now_us=1)
    assert database.transact(scores.upsert, replace(SCORE, span_id=s.span_id(1)), now_us=1).is_new


def test_an_account_logs_in_by_its_password_only(database: Database) -> None:
    database.transact(people.create, "anna", role="reader", password="correct horse battery", now_us=1)
    with database.write() as connection:
        assert people.authenticate(connection, "anna", "wrong horse battery", now_us=2) is None
        assert people.authenticate(connection, "nobody", "correct horse battery", now_us=2) is None
        found = people.authenticate(connection, "anna", "correct horse battery", now_us=2)
    assert found is not None
    assert found.role == "reader"
    (row,) = s.rows(database, "account")
    assert row["password_hash"].startswith("$argon2id$")
    with pytest.raises(InvalidInput):
        database.transact(people.create, "anna", role="reader", password="another password", now_us=1)
    with pytest.raises(InvalidInput):
        database.transact(people.create, "bob", role="king", password="another password", now_us=1)
    with pytest.raises(InvalidInput):
        database.transact(people.create, "bob", role="reader", password="short", now_us=1)


def test_a_session_ends_when_idle_when_old_and_with_its_account(database: Database) -> None:
    account = database.transact(people.create, "anna", role="admin", password="correct horse battery", now_us=1)
    options = {"name": "anna", "role": "admin", "account_id": account.id, "client": "::1"}
    token = database.transact(people.open_session, **options, now_us=0)
    assert token not in repr(s.rows(database, "panel_session"))

    def found(now_us: int) -> people.PanelSession | None:
        with database.read() as connection:
            return people.find_session(connection, token, now_us=now_us)

    live = found(29 * 60 * SECOND)
    assert live is not None
    assert found(31 * 60 * SECOND) is None
    for hour in range(1, 13):
        database.transact(people.touch_session, live.token_hash, now_us=hour * 3600 * SECOND - SECOND)
    assert found(12 * 3600 * SECOND - 1) is not None
    assert found(12 * 3600 * SECOND) is None
    database.transact(people.disable, "anna", now_us=5)
    assert found(11 * 3600 * SECOND) is None


def test_guessing_is_slowed_down_by_account_and_by_address(database: Database) -> None:
    def is_throttled(name: str, client: str, now_us: int) -> bool:
        with database.read() as connection:
            return people.is_throttled(connection, name, client, now_us=now_us)

    for _ in range(people.PER_ACCOUNT):
        assert not is_throttled("anna", "1.1.1.1", 10)
        database.transact(people.note_failure, "anna", "1.1.1.1", now_us=10)
    assert is_throttled("anna", "9.9.9.9", 10)
    assert not is_throttled("bob", "1.1.1.1", 10)
    assert not is_throttled("anna", "9.9.9.9", 10 + 61 * SECOND)
    for n in range(people.PER_CLIENT):
        database.transact(people.note_failure, f"user{n}", "1.1.1.1", now_us=10)
    assert is_throttled("bob", "1.1.1.1", 11)


def test_a_key_is_checked_in_memory_and_refused_soon_after_it_was_revoked(database: Database) -> None:
    made = database.transact(keys.create, name="ci", scopes=("write", "read"), now_us=1)
    assert made.key.startswith(f"ttk_{made.id}_")
    assert made.key.rpartition("_")[2] not in repr(s.rows(database, "api_key")) + repr(made)
    now = [100.0]
    check = keys.KeyCheck(database, clock=lambda: now[0], wall=lambda: s.NOW)
    found = check.find(made.key)
    assert found is not None
    assert found.scopes == ("read", "write")
    for wrong in (made.key[:-1] + "x", "ttk_x_y", "", "Bearer", f"ttk_{made.id}_"):
        assert check.find(wrong) is None
    database.transact(keys.revoke, made.id, now_us=2)
    now[0] += 5
    assert check.find(made.key) is None
    with pytest.raises(NotFound):
        database.transact(keys.revoke, "nope", now_us=2)
    with pytest.raises(InvalidInput):
        database.transact(keys.create, name="x", scopes=("root",), now_us=1)


def test_a_changed_row_breaks_the_chain_of_the_audit_log(database: Database) -> None:
    for n in range(4):
        database.transact(
            audit.append, actor="anna", action="login", now_us=n, target=f"t{n}", details={"n": n, "é": "✓"}
        )
    with database.write() as connection:
        assert audit.broken_at(connection) is None
        entries = audit.list_entries(connection)
        assert [entry.target for entry in entries] == ["t3", "t2", "t1", "t0"]
        a = tables.audit
        connection.execute(a.update().where(a.c.id == entries[2].id).values(actor="mallory"))
        assert audit.broken_at(connection) == entries[2].id


def test_a_price_is_added_replaced_and_removed(database: Database) -> None:
    price = Price(
        id="p1", provider="own", model="m", effective_from_us=3, rates_per_mtok={"input_mtok": "0.1"}, created_at_us=1
    )
    assert database.transact(prices.add, price)
    assert not database.transact(prices.add, replace(price, rates_per_mtok={"input_mtok": "0.2"}))
    with database.read() as connection:
        assert list(prices.list_prices(connection)) == [replace(price, rates_per_mtok={"input_mtok": "0.2"})]
    assert database.transact(prices.remove, "p1")
    assert not database.transact(prices.remove, "p1")
