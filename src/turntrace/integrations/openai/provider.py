"""Which provider a client talks to: many speak OpenAI's protocol, and a price depends on whose model it is."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from turntrace.integrations.openai.reading import text
from turntrace.tracing.trust import HostRules, host_of

_HOSTS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.mistral.ai": "mistral_ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.novita.ai": "novita",
    "router.huggingface.co": "huggingface_together",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.anthropic.com": "anthropic",
}
DEFAULT: Final = "openai"


@lru_cache(256)
def _provider_at(address: str, named: tuple[str, ...]) -> str:
    host = (host_of(address) or "").lower()
    own = dict(_pairs(named))
    place = address.partition("//")[2].partition("/")[0].lower()
    if place in own or host in own:
        return own.get(place) or own[host]
    return next((name for known, name in _HOSTS.items() if host == known or host.endswith(f".{known}")), DEFAULT)


def _pairs(named: Iterable[str]) -> Iterable[tuple[str, str]]:
    for item in named:
        host, _, name = item.partition("=")
        if name.strip():
            yield host.strip().lower(), name.strip()


def provider_of(client: Any, named: tuple[str, ...]) -> str:
    """The provider behind a client's base URL.

    Args:
        named: the setting `provider_hosts`, `host=provider` or `host:port=provider` each; it goes first.
    """
    return _provider_at(address_of(client), named)


def address_of(client: Any) -> str:
    """The base URL of a client, empty where it has none."""
    found = getattr(client, "base_url", None)
    return text(found if isinstance(found, str) else str(found or "")) or ""


@lru_cache(16)
def _rules(hosts: tuple[str, ...]) -> HostRules:
    return HostRules(hosts)


def states_usage_of_streams(client: Any, hosts: tuple[str, ...]) -> bool:
    """Whether a client's host understands `stream_options` (setting `stream_usage_hosts`)."""
    return _rules(hosts).allows(host_of(address_of(client)))
