"""Turns of a server under test, read over its API, and what the tests ask of them."""

from typing import Any

import httpx

from tests.acceptance.servers import Api, Server, wait_until

USAGE = {"input": 100, "output": 10, "cache_read": 64, "reasoning": 4}


class Turns:
    """A server under test and its API."""

    def __init__(self, server: Server, api: Api) -> None:
        self.server = server
        self.api = api

    def turn(self, path: str) -> dict[str, Any]:
        """One turn, when all of it is stored."""
        with httpx.Client(timeout=60) as visitor:
            answer = visitor.post(self.server.url + path)
        assert answer.status_code == 200, self.server.log.read_text()[-3000:]
        trace_id = answer.headers["x-trace-id"]
        return dict(wait_until(lambda: self._stored(trace_id), seconds=60, what=f"the turn of {path} is stored"))

    def _stored(self, trace_id: str) -> dict[str, Any] | None:
        if self.api.status(f"/traces/{trace_id}") != 200:
            return None
        found: dict[str, Any] = self.api.get(f"/traces/{trace_id}")
        is_whole = all(item["duration_ms"] is not None for item in found["observations"])
        return found if found["status"] and is_whole else None


def tree(turn: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """(type, name, name of the parent) in order of start."""
    names = {item["id"]: item["name"] for item in turn["observations"]}
    return [(item["type"], item["name"], names.get(item["parent_id"])) for item in turn["observations"]]


def counted(item: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in item["usage"].items() if count is not None}


def calls(turn: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in turn["observations"] if item["type"] in ("generation", "embedding")]
