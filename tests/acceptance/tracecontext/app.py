"""The test service of the W3C trace-context harness (github w3c/trace-context, directory `test`).

`POST /test` takes a JSON array of `{"url", "arguments"}` and answers after it has posted the arguments to every URL.
`asgi` runs under any ASGI server, `wsgi` is the same as a Flask application.

    uvicorn tests.acceptance.tracecontext.app:asgi --port 5000
    gunicorn tests.acceptance.tracecontext.app:wsgi --bind 127.0.0.1:5000 --threads 4
    STRICT_LEVEL=2 SPEC_LEVEL=2 python test.py http://127.0.0.1:5000/test
"""

from typing import Any

import flask
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from turntrace import Turntrace, TurntraceMiddleware, TurntraceWSGIMiddleware


async def call_out(request: Request) -> JSONResponse:
    """One outgoing call for each element, with the context of the turn that this request is."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        for element in await request.json():
            with tt.observation("call", type="tool", input=element["url"]):
                await client.post(element["url"], json=element["arguments"], headers=tt.inject({}, url=element["url"]))
    return JSONResponse(None)


def make_flask() -> flask.Flask:
    """The same, synchronous."""
    app = flask.Flask(__name__)

    @app.post("/test")
    def call_out_sync() -> Any:
        with httpx.Client(timeout=10, trust_env=False) as client:
            for element in flask.request.get_json():
                with tt.observation("call", type="tool", input=element["url"]):
                    client.post(element["url"], json=element["arguments"], headers=tt.inject({}, url=element["url"]))
        return flask.jsonify(None)

    return app


tt = Turntrace()
asgi = Starlette(routes=[Route("/test", call_out, methods=["POST"])])
asgi.add_middleware(TurntraceMiddleware, turntrace=tt)
wsgi = make_flask()
wsgi.wsgi_app = TurntraceWSGIMiddleware(wsgi.wsgi_app, turntrace=tt)  # type: ignore[method-assign]
