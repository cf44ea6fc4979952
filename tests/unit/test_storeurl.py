"""Hosts of database URLs, compared with what SQLAlchemy connects to."""

import pytest
from sqlalchemy import make_url

from turntrace.records.storeurl import hosts, names_hosts_elsewhere


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://eu.example/x", ("eu.example",)),
        ("postgresql+psycopg://me:canary@eu.example:5432/x?sslmode=require", ("eu.example",)),
        ("postgresql://me:p/w@eu.example/x", ("eu.example",)),
        ("postgresql://me:p?w@eu.example/x", ("eu.example",)),
        ("postgresql://me@[::1]:5432/x", ("::1",)),
        ("postgresql:///x", ()),
        ("postgresql:///x?host=us.example", ("us.example",)),
        (
            "postgresql://eu.example/x?host=us.example:5432&host=asia.example",
            ("eu.example", "us.example", "asia.example"),
        ),
        ("postgresql:///x?host=us.example,asia.example:1", ("us.example", "asia.example")),
        ("postgresql:///x?hostaddr=192.0.2.1", ("192.0.2.1",)),
        ("postgresql:///x?host=2001:db8::1", ("2001:db8::1",)),
        ("postgresql:///x?host=/var/run/postgresql", ()),
        ("mysql+pymysql://eu.example/x?host=us%2Eexample", ("eu.example", "us.example")),
        ("sqlite:////srv/a.db", ()),
        ("sqlite:///a.db?host=us.example", ()),
    ],
)
def test_every_host_that_may_be_connected_to_is_found(url: str, found: tuple[str, ...]) -> None:
    assert hosts(url) == found
    stated = make_url(url)
    if stated.host:
        assert stated.host in found


@pytest.mark.parametrize("url", ["", "canary", "canary.example/x", "postgresql://h:canary/x"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        hosts(url)
    assert "canary" not in str(refused.value)


def test_a_url_whose_driver_looks_its_host_up_in_a_file_is_known() -> None:
    assert names_hosts_elsewhere("postgresql:///x?service=us")
    assert names_hosts_elsewhere("mysql://h/x?read_default_file=/etc/my.cnf")
    assert not names_hosts_elsewhere("postgresql://h/x?sslmode=require")
