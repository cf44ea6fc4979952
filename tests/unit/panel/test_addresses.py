import asyncio
from typing import Any

import pytest

from turntrace.errors import InvalidInput
from turntrace.panel.address import Address, local_path
from turntrace.panel.gate.csrf import site_of
from turntrace.panel.gate.headers import path_only
from turntrace.panel.gate.proxy import FixRoot
from turntrace.panel.narrowing import narrowing

NOW_US = 1_795_000_000_000_000


@pytest.mark.parametrize(
    ("root_path", "path", "expected"),
    [
        ("/llm-admin", "/llm-admin/traces", "/llm-admin/traces"),
        ("/llm-admin", "/llm-admin", "/llm-admin"),
        ("/svc/llm-admin", "/llm-admin/traces", "/svc/llm-admin/traces"),
        ("/svc/llm-admin", "/svc/llm-admin/traces", "/svc/llm-admin/traces"),
        ("/a/b/c", "/b/c/x", "/a/b/c/x"),
        ("/a/b/c", "/x", "/a/b/c/x"),
        ("/svc/llm-admin/", "/llm-admin/traces", "/svc/llm-admin/traces"),
        ("/llm", "/llm-admin/x", "/llm/llm-admin/x"),
        ("", "/traces", "/traces"),
    ],
)
def test_the_path_gets_the_prefix_that_a_proxy_took(root_path: str, path: str, expected: str) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(FixRoot(app)({"type": "http", "root_path": root_path, "path": path}, nothing, nothing))
    assert seen[0]["path"] == expected
    assert seen[0]["path"].startswith(seen[0]["root_path"])


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://evil.example/llm-admin/x?a=1#b", "/llm-admin/x?a=1#b"),
        ("//evil.example/x", "/x"),
        ("/x", "/x"),
        ("https://evil.example", "/"),
        ("http://e.x//evil.example/x", "/evil.example/x"),
    ],
)
def test_redirects_lose_their_host(url: str, path: str) -> None:
    assert path_only(url) == path


@pytest.mark.parametrize(
    "target",
    [None, "", "x", "//e.x", "/m//e.x", "/m/../x", "/m/\\e.x", "/m/\x00", "/m/a b", "/mm/x", "https://e.x/m/", "/m"],
)
def test_only_our_own_paths_are_gone_to(target: str | None) -> None:
    assert local_path(target, "/m") is None


def test_our_own_paths_are_gone_to() -> None:
    assert local_path("/m/traces?q=a%20b..&x=//", "/m") == "/m/traces?q=a%20b..&x=//"


def test_addresses_are_quoted() -> None:
    address = Address("/m")
    assert address.to("sessions", "a/b?c#d", user_id="é&", none=None, from_="x") == (
        "/m/sessions/a%2Fb%3Fc%23d?user_id=%C3%A9%26&from=x"
    )
    assert address.with_query("traces", (("a", "1"), ("b", "2")), a=None, c="3") == "/m/traces?b=2&c=3"


@pytest.mark.parametrize(
    ("headers", "site"),
    [
        ({}, "unknown"),
        ({"sec-fetch-site": "same-origin"}, "same"),
        ({"sec-fetch-site": "none"}, "cross"),
        ({"sec-fetch-site": "same-site", "origin": "https://host"}, "cross"),
        ({"origin": "https://host", "host": "host"}, "same"),
        ({"origin": "https://HOST:8000", "host": "host:8000"}, "same"),
        ({"origin": "https://evil", "host": "host"}, "cross"),
        ({"origin": "https://public.example", "host": "internal"}, "same"),
        ({"origin": "null", "host": "host"}, "hidden"),
    ],
)
def test_where_a_form_comes_from(headers: dict[str, str], site: str) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert site_of({"type": "http", "headers": raw}, "https://public.example/llm-admin") == site


def test_filters_of_an_address() -> None:
    found = narrowing(
        {"status": "error", "min_cost": "0.01", "range": "1h", "q": " ", "other": "x"},
        now_us=NOW_US,
        default_range="all",
    )
    assert found.filter.status == "error"
    assert str(found.filter.min_cost) == "0.01"
    assert found.filter.from_us == NOW_US - 3_600_000_000
    assert found.filter.q is None
    assert [(chip.label, chip.value) for chip in found.chips] == [("Status", "error"), ("Costlier than", "$0.01")]
    assert found.params == (("status", "error"), ("min_cost", "0.01"), ("range", "1h"))


def test_a_custom_period_goes_before_a_range() -> None:
    found = narrowing({"from": "2026-11-21T08:30", "to": "2026-11-21T09:30+01:00", "range": "1h"}, now_us=NOW_US)
    assert found.range == "custom"
    assert (found.filter.from_us, found.filter.to_us) == (1_795_249_800_000_000, 1_795_249_800_000_000)


@pytest.mark.parametrize("query", [{"from": "soon"}, {"min_cost": "-1"}, {"min_cost": "inf"}, {"min_duration_ms": "x"}])
def test_what_cannot_be_read_is_said(query: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        narrowing(query, now_us=NOW_US)
