"""Links into the host's own admin."""

import pytest

from turntrace.records.hostlink import links_of, parse

LINKS = [parse("Shop@user=https://shop.example/users/{value}"), parse("tag:order=/orders/{value}")]


def test_a_value_stays_within_its_place() -> None:
    found = links_of(LINKS, {"user": "a/../b?x=1#y"}, ("order:7", "team:red"))
    assert found == [
        ("Shop", "https://shop.example/users/a%2F..%2Fb%3Fx%3D1%23y"),
        ("Open in the application", "/orders/7"),
    ]


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_lead_up_the_path_has_no_link(value: str) -> None:
    assert links_of(LINKS, {"user": value}, (f"order:{value}",)) == []


@pytest.mark.parametrize("stated", ["user=javascript:{value}", "user=//{value}/", "user=https://{value}/", "user=/x"])
def test_a_link_that_a_value_could_lead_elsewhere_is_refused(stated: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse(stated)
