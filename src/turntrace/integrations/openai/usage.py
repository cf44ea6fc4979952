"""Counts of OpenAI's usage objects (chat, Responses, embeddings, images, audio, realtime) by our names."""

from typing import Any

from turntrace.integrations.openai.reading import get

_MOST_SECONDS = 1e9
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
    "input_image_tokens": (("input_tokens_details", "image_tokens"),),
    "output_image_tokens": (("output_tokens_details", "image_tokens"),),
    "cache_audio_read_tokens": (("input_tokens_details", "cached_tokens_details", "audio_tokens"),),
    "cache_image_read_tokens": (("input_tokens_details", "cached_tokens_details", "image_tokens"),),
}


def usage_of(stated: Any) -> dict[str, int] | None:
    """Counts as `update(usage=…)` takes them, or None where nothing is stated; absent is not zero."""
    if stated is None:
        return None
    counts: dict[str, int] = {}
    for name, paths in _COUNTS.items():
        for path in paths:
            count = _at(stated, path)
            if type(count) is int and count >= 0:
                counts[name] = count
                break
    seconds = get(stated, "seconds")  # what transcription by the minute is paid for
    if isinstance(seconds, (int, float)) and 0 <= seconds < _MOST_SECONDS:
        counts["audio_seconds"] = round(seconds)
    return counts or None


def _at(stated: Any, path: tuple[str, ...]) -> Any:
    """The count at a path; audio and realtime spell `…_token_details`."""
    found = get(stated, *path)
    if found is None and path[0].endswith("put_tokens_details"):
        return get(stated, path[0].replace("tokens", "token"), *path[1:])
    return found
