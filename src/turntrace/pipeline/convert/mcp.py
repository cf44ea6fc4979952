"""Model Context Protocol: `mcp.method.name`; a call of a tool is a tool, everything else is a plain span."""

from turntrace.pipeline.convert import otelgenai
from turntrace.pipeline.convert.bag import Bag
from turntrace.pipeline.draft import Draft


def read(bag: Bag, draft: Draft) -> None:
    """Fill the draft; the method stays in the metadata."""
    method = bag.peek("mcp.method.name")
    otelgenai.read(bag, draft)
    draft.type = "tool" if method == "tools/call" else "span"
    if draft.type == "tool" and draft.tool_name is None:
        draft.tool_name = draft.name.removeprefix("tools/call ").strip() or None
