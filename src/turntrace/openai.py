"""The drop-in client: `from turntrace.openai import openai` is the official package, with its calls traced.

The classes, exceptions and answers are the package's own; importing this module switches the tracing on for every
client of the process (see `integrations.openai.switch`).
"""

try:
    import openai
    from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
except ModuleNotFoundError as error:
    if error.name != "openai":
        raise
    raise ImportError(
        "turntrace.openai traces the package `openai`, which is not installed: pip install openai"
    ) from error

from turntrace.integrations.openai.switch import switch_on

switch_on()

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI", "openai"]
