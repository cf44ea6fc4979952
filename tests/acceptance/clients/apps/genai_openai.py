"""The plain client with an OpenTelemetry instrumentation of it installed."""

from openai import OpenAI

from tests.acceptance.clients.apps.host import MODEL, OPENAI_URL, host

tt, app = host()
client = OpenAI(base_url=OPENAI_URL, api_key="k")


@app.post("/agent")
def use_client() -> dict[str, str]:
    """A whole answer and a stream."""
    asked = [{"role": "user", "content": "How?"}]
    client.chat.completions.create(model=MODEL, messages=asked)  # type: ignore[arg-type]
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model=MODEL, messages=asked, stream=True, stream_options={"include_usage": True}
    )
    return {"answer": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)}
