"""Pydantic AI and Logfire: the GenAI conventions, with a few names of their own."""

from turntrace.pipeline.convert import logfire, otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.value import structured
from turntrace.pipeline.draft import Draft


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from GenAI attributes and the extras."""
    message = bag.text("logfire.msg")
    if message and "{" in draft.name:
        draft.name = message
    bag.take("logfire.json_schema")
    result = bag.take("final_result")
    otelgenai.read(bag, draft)
    requested = bag.text("model_name")
    draft.model_requested = draft.model_requested or requested
    draft.model = draft.model or requested
    if result is not None and draft.output is None:
        draft.output = structured(result)
    logfire.read(bag, draft)
