"""A server that speaks OpenAI's chat completions and misbehaves on demand; it counts what it is asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = json.dumps({"reason": "it says how", "score": 0.75})


@dataclass
class JudgeServer:
    """`behaviour`: good, rubbish, no_schema (refuses structured output), drip, hang, redirect, or a status.

    `keeps_open`: connections stay open after an answer; `hangs_up`: they do not, and no header says so.
    """

    behaviour: str = "good"
    retry_after: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    seconds: float = 0.0
    keeps_open: bool = False
    hangs_up: bool = False
    connections: int = 0

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one answer."""
        if self.behaviour.isdigit():
            retry = {"Retry-After": self.retry_after} if self.retry_after else {}
            return int(self.behaviour), retry, b'{"error": {"message": "no"}}'
        if self.behaviour == "redirect":
            return 307, {"Location": f"{self.url}/elsewhere"}, b""
        if self.behaviour == "no_schema" and "response_format" in body:
            return 400, {}, b'{"error": {"message": "response_format is not supported"}}'
        text = {"rubbish": "I would say it is rather good.", "no_schema": f"Well:\n```json\n{GOOD}\n```"}
        message = {"role": "assistant", "content": text.get(self.behaviour, GOOD)}
        document = {
            "id": "chatcmpl-1",
            "model": "small-1",
            "choices": [{"message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }
        return 200, {}, json.dumps(document).encode()


@contextmanager
def judge_server(**fields: Any) -> Iterator[JudgeServer]:
    """The server, for as long as the block runs."""
    state = JudgeServer(**fields)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if state.keeps_open else "HTTP/1.0"

        def setup(self) -> None:
            state.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append(body)
            state.headers.append({key.lower(): value for key, value in self.headers.items()})
            time.sleep(state.seconds)
            status, headers, answer = state.answer(body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer) + (10 if state.behaviour == "drip" else 0)))
            self.end_headers()
            self.wfile.write(answer)
            self.close_connection = self.close_connection or state.hangs_up
            if state.behaviour == "drip":
                self.wfile.flush()
                closing.wait(20)

        def log_message(self, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked may have gone: that is what some tests are about."""

    closing = threading.Event()
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        closing.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
