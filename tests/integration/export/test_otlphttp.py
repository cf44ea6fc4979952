"""The sender against a real HTTP server: what is answered, what is believed, and which addresses are called at all."""

import gzip
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from turntrace.integrations.otlphttp import Guard, HostNotAllowed, OtlpSender
from turntrace.records.destination import Destination, Verdict, read_destinations

LOOPBACK = Guard(["127.0.0.1"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Site"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), gzip.decompress(body), self.client_address[1]))
        self.server.arrived.set()
        self.server.leave.wait(60)
        status, headers, content = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
        self.requests: list[tuple[str, dict[str, str], bytes, int]] = []
        self.arrived, self.leave = threading.Event(), threading.Event()
        self.leave.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces?project=1"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield server
        server.leave.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def sender(site: Site) -> Iterator[OtlpSender]:
    there = Destination(name="peer", url=site.url, headers={"Authorization": "Bearer key"})
    found = OtlpSender(there, LOOPBACK, timeout_seconds=30)
    yield found
    found.close()


def test_requests_are_compressed_and_share_a_connection(site: Site, sender: OtlpSender) -> None:
    assert [sender.send(body).verdict for body in (b"one", b"two")] == [Verdict.TAKEN, Verdict.TAKEN]
    (path, headers, body, port), (_, _, second, same_port) = site.requests
    assert (path, body, second) == ("/v1/traces?project=1", b"one", b"two")
    assert headers["Authorization"] == "Bearer key"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["User-Agent"].startswith("turntrace/")
    assert port == same_port


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (202, Verdict.TAKEN),
        (400, Verdict.REFUSED),
        (413, Verdict.REFUSED),
        (422, Verdict.REFUSED),
        (301, Verdict.LATER),
        (307, Verdict.LATER),
        (401, Verdict.LATER),
        (404, Verdict.LATER),
        (429, Verdict.LATER),
        (500, Verdict.LATER),
        (503, Verdict.LATER),
    ],
)
def test_answers_mean_what_the_specification_says(
    status: int, verdict: Verdict, site: Site, sender: OtlpSender
) -> None:
    site.answer = (status, {"Location": "http://127.0.0.1:1/"}, b"why")
    answer = sender.send(b"body")
    assert (answer.verdict, len(site.requests)) == (verdict, 1)
    assert answer.reason == ("" if verdict is Verdict.TAKEN else f"status {status}")


def test_the_pause_that_is_asked_for_is_read(site: Site, sender: OtlpSender) -> None:
    site.answer = (503, {"Retry-After": "17"}, b"")
    assert sender.send(b"x").retry_seconds == 17
    site.answer = (429, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)}, b"")
    assert 500 < (sender.send(b"x").retry_seconds or 0) <= 600
    site.answer = (429, {"Retry-After": "soon"}, b"")
    assert sender.send(b"x").retry_seconds is None


def test_a_partial_success_says_how_many_spans_were_rejected(site: Site, sender: OtlpSender) -> None:
    partial = ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 300
    partial.partial_success.error_message = "too old"
    site.answer = (200, {}, partial.SerializeToString())
    answer = sender.send(b"x")
    assert (answer.verdict, answer.reason) == (Verdict.TAKEN, "300 spans rejected")


def test_a_connection_that_was_closed_meanwhile_is_opened_again(site: Site, sender: OtlpSender) -> None:
    site.answer = (200, {}, b"")
    assert sender.send(b"one").verdict is Verdict.TAKEN
    connection = sender._connection
    assert connection is not None
    assert connection.sock is not None
    connection.sock.shutdown(2)
    assert sender.send(b"two").verdict is Verdict.TAKEN
    site.answer = (200, {"Connection": "close"}, b"")
    assert [sender.send(b"three").verdict, sender.send(b"four").verdict] == [Verdict.TAKEN] * 2
    assert [body for _, _, body, _ in site.requests][-3:] == [b"two", b"three", b"four"]


def test_nobody_there_is_no_exception() -> None:
    there = Destination(name="peer", url="http://127.0.0.1:1/")
    answer = OtlpSender(there, LOOPBACK).send(b"x")
    assert (answer.verdict, answer.reason) == (Verdict.LATER, "ConnectionRefusedError")


def test_a_stop_ends_the_request_that_is_under_way(site: Site, sender: OtlpSender) -> None:
    site.leave.clear()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(sender.send(b"x")))
    thread.start()
    assert site.arrived.wait(60)
    started = time.monotonic()
    sender.close()
    thread.join(60)
    assert time.monotonic() - started < 20
    assert answers[0].verdict is Verdict.LATER
    assert sender.send(b"y").verdict is Verdict.LATER
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "::", "fec0::1"),
    ],
)
def test_private_addresses_are_called_only_where_they_are_named(address: str) -> None:
    lookup = {"inside.example": [address]}
    with pytest.raises(HostNotAllowed):
        Guard([], lambda host, port: lookup[host]).address("inside.example", 443)
    assert Guard(["inside.example"], lambda host, port: lookup[host]).address("inside.example", 443) == address


def test_public_addresses_need_no_permission_and_are_preferred() -> None:
    lookup = {"peer.example": ["10.0.0.1", "93.184.216.34"]}
    assert Guard([], lambda host, port: lookup[host]).address("peer.example", 443) == "93.184.216.34"
    lookup = {"peer.example": ["10.0.0.1"]}
    assert Guard(["10.0.0.0/8"], lambda host, port: lookup[host]).address("peer.example", 443) == "10.0.0.1"
    assert Guard(["private"], lambda host, port: lookup[host]).address("peer.example", 443) == "10.0.0.1"


def test_the_address_that_was_checked_is_the_one_that_is_called(site: Site) -> None:
    port = site.server_address[1]
    looked: list[str] = []

    def lookup(host: str, _: int) -> list[str]:
        looked.append(host)
        return ["127.0.0.1"]

    there = Destination(name="peer", url=f"http://no-such-name.invalid:{port}/")
    sender = OtlpSender(there, Guard(["no-such-name.invalid"], lookup))
    assert sender.send(b"x").verdict is Verdict.TAKEN
    assert looked == ["no-such-name.invalid"]
    assert site.requests[0][1]["Host"] == f"no-such-name.invalid:{port}"
    refusing = OtlpSender(there, Guard([], lookup))
    assert (refusing.send(b"x").verdict, refusing.send(b"x").reason) == (Verdict.LATER, "address not allowed")
    assert len(site.requests) == 1
    sender.close()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "JSON"),
        ("[1]", "objects"),
        ('{"name": "A B", "url": "https://x/"}', "name"),
        ('{"name": "a", "url": "ftp://x/"}', "url"),
        ('{"name": "a", "url": "https://u:p@x/"}', "user info"),
        ('{"name": "a", "url": "https://x/ y"}', "characters"),
        ('{"name": "a", "url": "https://x/", "sample_rate": 2}', "sample_rate"),
        ('{"name": "a", "url": "https://x/", "content": "yes"}', "content"),
        ('{"name": "a", "url": "https://x/", "routes": [1]}', "routes"),
        ('{"name": "a", "url": "https://x/", "header": {}}', "no header"),
        ('{"name": "a", "url": "https://x/", "headers": {"a": "b\\r\\nc: d"}}', "headers"),
        ('[{"name": "a", "url": "https://x/"}, {"name": "a", "url": "https://y/"}]', "same name"),
    ],
)
def test_a_destination_that_cannot_be_is_told_at_the_start(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        read_destinations(text)


def test_keys_do_not_show() -> None:
    found = read_destinations('{"name": "a", "url": "https://x/v1/traces", "headers": {"authorization": "hush"}}')
    assert "hush" not in repr(found)
    assert found[0].host == "x"
