"""OpenLIT: the GenAI conventions, with a cost of nothing for models whose price it does not know."""

from typing import Final

from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.convert.value import microseconds
from turntrace.pipeline.draft import Draft

SCOPE: Final = "openlit."
_OF_THE_ANSWER: Final = ("gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.args")


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft from the conventions, less what would be wrong."""
    if not bag.peek("gen_ai.usage.cost"):
        bag.take("gen_ai.usage.cost")  # zero means unknown here
    user = bag.text("gen_ai.request.user")
    first = bag.take("gen_ai.server.time_to_first_token")
    bag.take("gen_ai.server.time_per_output_token", "gen_ai.client.token.usage", "telemetry.sdk.name")
    bag.take("deployment.environment", "service.name")
    if bag.peek("gen_ai.operation.name") != "execute_tool":
        bag.take(*_OF_THE_ANSWER)  # the called tool is in the answer already; this span is no tool
    otelgenai.read(bag, draft)
    draft.user_id = draft.user_id or user
    if draft.parameters.get("stream") is True and draft.ttft_us is None:
        draft.ttft_us = microseconds(first)
