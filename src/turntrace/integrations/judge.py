"""Asking a judge: over HTTP to the checked address, or a callable of the host. Redirects are not followed."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from turntrace.errors import EvaluationFailed
from turntrace.evaluation import judge
from turntrace.evaluation.judge import JudgeAnswer, JudgeRequest, JudgeSpec
from turntrace.evaluation.shape import ScoreShape
from turntrace.integrations.judge_address import JudgeAddresses
from turntrace.version import __version__

MOST_BYTES: Final = 2 << 20
_REFUSES_FORM: Final = frozenset({400, 404, 415, 422, 501})  # of a form of structured output, not of us
_FINAL: Final = frozenset({401, 403, 405, 410, 413})
_MOST_RETRY_AFTER: Final = 3600.0


class JudgeClient:
    """Asks judges. Thread-safe.

    Args:
        addresses: who may be asked.
        load: finds a function of the host by `module:function`, where it is allowed.
    """

    def __init__(self, addresses: JudgeAddresses, load: Callable[[str], Callable[..., Any]]) -> None:
        self._addresses, self._load = addresses, load
        self._modes: dict[tuple[str, str], int] = {}  # the strictest form that a model has not refused
        self._lock = threading.Lock()

    def __call__(self, spec: JudgeSpec, api_key: str | None, prompt: str, shape: ScoreShape) -> JudgeAnswer:
        """What the model said.

        Raises:
            EvaluationFailed: it did not answer, or not in its provider's form; `reason` says how.
        """
        if spec.callable is not None:
            return self._call(spec, prompt, shape)
        assert spec.base_url is not None
        key = (spec.base_url, spec.model)
        for place in range(self._modes.get(key, 0), len(judge.MODES)):
            status, headers, body = self._send(spec, api_key, judge.request(spec, prompt, shape, judge.MODES[place]))
            if status in _REFUSES_FORM and place + 1 < len(judge.MODES):
                continue
            if status != 200:
                raise _failure(status, headers)
            with self._lock:
                self._modes[key] = place
            return judge.read_answer(spec, _parsed(body))
        raise AssertionError("unreachable")

    def _call(self, spec: JudgeSpec, prompt: str, shape: ScoreShape) -> JudgeAnswer:
        assert spec.callable is not None
        answered = self._load(spec.callable)(f"{judge.instructions(shape)}\n\n{prompt}", dict(shape.schema()))
        text = answered if isinstance(answered, str) else json.dumps(answered)
        return JudgeAnswer(text=text, model=spec.model)

    def _send(
        self, spec: JudgeSpec, api_key: str | None, request: JudgeRequest
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert spec.base_url is not None
        deadline = time.monotonic() + spec.timeout_seconds
        address, port = self._addresses.address(spec.base_url)
        connection = _Connection(spec.base_url, address, port, spec.timeout_seconds)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"turntrace/{__version__}",
            **request.headers,
            **judge.credentials(spec, api_key),
        }
        try:
            path = urlsplit(spec.base_url).path + request.path
            connection.request("POST", path, json.dumps(request.body).encode(), headers)
            with closing(connection.getresponse()) as response:
                fields = {name.lower(): value for name, value in response.getheaders()}
                return response.status, fields, _read(response, connection, deadline)
        except TimeoutError:
            raise EvaluationFailed("timeout") from None
        except ssl.SSLError:
            raise EvaluationFailed("tls") from None
        except (OSError, http.client.HTTPException):
            raise EvaluationFailed("unreachable") from None
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under the name that was asked for."""

    def __init__(self, url: str, address: str, port: int, seconds: float) -> None:
        parts = urlsplit(url)
        super().__init__(parts.hostname or "", port, timeout=seconds)
        self._address = (address, port)
        self._seconds = seconds
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def connect(self) -> None:
        """Connect to the address itself: no second look at the name."""
        self.sock = socket.create_connection(self._address, timeout=self._seconds)
        if self._tls is not None:
            try:
                self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
            except BaseException:
                self.sock.close()
                raise


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    """The body, bounded in bytes and in time: a server that drips is given up."""
    body = bytearray()
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(rest)
        piece = response.read1(65536)
        if not piece:
            return bytes(body)
        body += piece
        if len(body) > MOST_BYTES:
            raise EvaluationFailed("answer_too_large")


def _failure(status: int, headers: Mapping[str, str]) -> EvaluationFailed:
    """What a status means: some are worth another try, later where the server says when."""
    stated = headers.get("retry-after", "")
    seconds = min(_MOST_RETRY_AFTER, float(stated)) if stated.isascii() and stated.isdigit() else None
    return EvaluationFailed(f"http_{status}", is_final=status in _FINAL, retry_after_seconds=seconds)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise EvaluationFailed("not_json") from None
