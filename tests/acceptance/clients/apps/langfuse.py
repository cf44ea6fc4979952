"""Langfuse's decorator around the plain client, and around Langfuse's own drop-in client."""

from langfuse import observe
from langfuse.openai import OpenAI as LangfuseOpenAI
from openai import OpenAI

from tests.acceptance.clients.apps.host import MODEL, OPENAI_URL, host

tt, app = host()
client = OpenAI(base_url=OPENAI_URL, api_key="k")
drop_in = LangfuseOpenAI(base_url=OPENAI_URL, api_key="k")


@observe(as_type="retriever")
def search(query: str) -> list[str]:
    """Find articles."""
    return [f"an article about {query}"]


@observe(as_type="agent")
def answer(query: str, with_client: OpenAI) -> str:
    """Find, then ask."""
    articles = search(query)
    asked = [{"role": "user", "content": f"{articles} {query}"}]
    found = with_client.chat.completions.create(model=MODEL, messages=asked)  # type: ignore[arg-type]
    return found.choices[0].message.content or ""


@app.post("/agent")
def use_plain_client() -> dict[str, str]:
    """The call is traced by our drop-in, inside Langfuse's spans."""
    return {"answer": answer("kettle", client)}


@app.post("/drop-in")
def use_drop_in() -> dict[str, str]:
    """The call is traced by Langfuse."""
    return {"answer": answer("kettle", drop_in)}
