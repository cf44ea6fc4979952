"""What the applications of these tests have in common: FastAPI, Turntrace, the provider's address."""

import os

from fastapi import FastAPI

from turntrace import Turntrace, TurntraceMiddleware

PROVIDER = os.environ["PROVIDER_URL"]
OPENAI_URL = f"{PROVIDER}/v1"
MODEL = "gpt-4o-mini"
CLAUDE = "claude-sonnet-4-5"
WISH = "please use the tool"


def host() -> tuple[Turntrace, FastAPI]:
    """An application that traces whatever is installed; `/instrumented` tells what that was."""
    tt = Turntrace()
    found = tt.instrument()
    app = FastAPI()
    app.add_middleware(TurntraceMiddleware, turntrace=tt)
    app.mount("/llm-admin", tt.panel())

    @app.get("/instrumented")
    def instrumented() -> list[str]:
        return list(map(str, found))

    @app.get("/health")
    def health() -> dict[str, str]:
        return {}

    return tt, app
