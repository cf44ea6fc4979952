"""One turn that calls another service with httpx, requests and aiohttp: all of it is one W3C trace.

    python docs/examples/http_clients.py

Session, user, feature, experiment and tags go along because `propagate_keys` names them; the service takes them because
`baggage_keys` does, and because the call comes from its own machine.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import requests
import uvicorn
from fastapi import FastAPI, Request

from turntrace import Turntrace, TurntraceMiddleware

ALL = "session.id,user.id,feature,experiment,tags"
tt = Turntrace(service_name="library", propagate_keys=ALL, baggage_keys=ALL)
app = FastAPI()
app.add_middleware(TurntraceMiddleware, turntrace=tt)


@app.get("/shelf/{title}")
def shelf(title: str, request: Request) -> dict[str, Any]:
    """The service that is called: it sees the caller's trace and session as its own."""
    with tt.observation("look", type="retrieval", input=title):
        return {"trace_id": tt.current_trace_id(), "carried": tt.carrier().get("baggage")}


async def turn(base_url: str) -> list[dict[str, Any]]:
    """The turn that calls."""
    answers = []
    with tt.turn("find-books", session_id="s-7", user_id="u-7", feature="search", tags=["plan:pro"]):
        print("turn    ", tt.current_trace_id())
        with tt.observation("httpx", type="tool"), tt.borders.httpx(httpx.Client()) as client:
            answers.append(client.get(f"{base_url}/shelf/emma").json())
        with tt.observation("requests", type="tool"), tt.borders.requests(requests.Session()) as session:
            answers.append(await asyncio.to_thread(lambda: session.get(f"{base_url}/shelf/ulysses", timeout=10).json()))
        with tt.observation("aiohttp", type="tool"):
            async with (
                aiohttp.ClientSession(trace_configs=[tt.borders.aiohttp()]) as client,
                client.get(f"{base_url}/shelf/dracula") as answer,
            ):
                answers.append(await answer.json())
    return answers


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The service on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    with serving() as url:
        for answer in asyncio.run(turn(url)):
            print("service ", answer["trace_id"], answer["carried"])
    tt.shutdown()
