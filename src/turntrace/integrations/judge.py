"""Asking a judge: over HTTP to the checked address, or a callable of the host. Redirects are not followed."""

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from turntrace.errors import EvaluationFailed
from turntrace.evaluation import judge
from turntrace.evaluation.judge import JudgeAnswer, JudgeRequest, JudgeSpec
from turntrace.evaluation.shape import ScoreShape
from turntrace.integrations.judge_address import JudgeAddresses
from turntrace.integrations.judge_connection import MOST_IDLE, Answered, Connections
from turntrace.version import __version__

_REFUSES_FORM: Final = frozenset({400, 404, 415, 422, 501})  # of a form of structured output, not of us
_FINAL: Final = frozenset({401, 403, 405, 410, 413})
_MOST_RETRY_AFTER: Final = 3600.0


class JudgeClient:
    """Asks judges. Thread-safe.

    Args:
        addresses: who may be asked.
        load: finds a function of the host by `module:function`, where it is allowed.
        keeps_open: connections stay open for a moment after an answer; `close` lets go of them.
    """

    def __init__(
        self, addresses: JudgeAddresses, load: Callable[[str], Callable[..., Any]], *, keeps_open: bool = False
    ) -> None:
        self._addresses, self._load = addresses, load
        self._modes: dict[tuple[str, str], int] = {}  # the strictest form that a model has not refused
        self._lock = threading.Lock()
        self._connections = Connections(MOST_IDLE if keeps_open else 0)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._connections.close()

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
            found = self._send(spec, api_key, judge.request(spec, prompt, shape, judge.MODES[place]))
            if found.status in _REFUSES_FORM and place + 1 < len(judge.MODES):
                continue
            if found.status != 200:
                raise _failure(found.status, found.headers)
            with self._lock:
                self._modes[key] = place
            return judge.read_answer(spec, _parsed(found.body))
        raise AssertionError("unreachable")

    def _call(self, spec: JudgeSpec, prompt: str, shape: ScoreShape) -> JudgeAnswer:
        assert spec.callable is not None
        answered = self._load(spec.callable)(f"{judge.instructions(shape)}\n\n{prompt}", dict(shape.schema()))
        text = answered if isinstance(answered, str) else json.dumps(answered)
        return JudgeAnswer(text=text, model=spec.model)

    def _send(self, spec: JudgeSpec, api_key: str | None, request: JudgeRequest) -> Answered:
        assert spec.base_url is not None
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"turntrace/{__version__}",
            **request.headers,
            **judge.credentials(spec, api_key),
        }
        try:
            return self._connections.post(
                spec.base_url,
                urlsplit(spec.base_url).path + request.path,
                json.dumps(request.body).encode(),
                headers,
                address=self._addresses.address(spec.base_url),
                seconds=spec.timeout_seconds,
            )
        except TimeoutError:
            raise EvaluationFailed("timeout") from None
        except ssl.SSLError:
            raise EvaluationFailed("tls") from None
        except (ConnectionResetError, http.client.HTTPException):
            raise EvaluationFailed("broken_off") from None  # it may have worked on the question, and charge for it
        except OSError:
            raise EvaluationFailed("unreachable") from None


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
