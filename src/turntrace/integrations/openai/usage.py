"""Token counts of OpenAI's three usage objects (chat, Responses, embeddings) by our names."""

from typing import Any

from turntrace.integrations.openai.reading import get

_COUNTS = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "cache_read_tokens": (("prompt_tokens_details", "cached_tokens"), ("input_tokens_details", "cached_tokens")),
    "cache_write_tokens": (
        ("prompt_tokens_details", "cache_write_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
    ),
    "input_audio_tokens": (("prompt_tokens_details", "audio_tokens"), ("input_tokens_details", "audio_tokens")),
    "output_audio_tokens": (
        ("completion_tokens_details", "audio_tokens"),
        ("output_tokens_details", "audio_tokens"),
    ),
}


def usage_of(stated: Any) -> dict[str, int] | None:
    """Counts as `update(usage=…)` takes them, or None where nothing is stated; absent is not zero."""
    if stated is None:
        return None
    counts: dict[str, int] = {}
    for name, paths in _COUNTS.items():
        for path in paths:
            count = get(stated, *path)
            if type(count) is int and count >= 0:
                counts[name] = count
                break
    return counts or None
