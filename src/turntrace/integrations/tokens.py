"""Counts tokens by the published vocabularies of OpenAI's models (extra `tokens`); they come with the library.

Other models are counted by the newest of them: vocabularies of one size cut ordinary text much alike.
"""

import importlib.util
import warnings
from functools import cache
from typing import Any, Final

_OLDER: Final = ("gpt-4-", "gpt-3.5", "text-embedding-", "davinci", "babbage")


def is_installed() -> bool:
    """Whether there is a tokenizer; nothing is loaded."""
    return importlib.util.find_spec("bpe_openai") is not None


def count(model: str, text: str) -> int:
    """Tokens of a text. The first call loads a vocabulary: half a second and some 60 MB."""
    return len(_vocabulary(_name(model)).encode_ordinary(text))


def _name(model: str) -> str:
    plain = model.rpartition("/")[2].lower()
    return "cl100k_base" if plain == "gpt-4" or plain.startswith(_OLDER) else "o200k_base"


@cache
def _vocabulary(name: str) -> Any:
    with warnings.catch_warnings():
        # It opens its files in a way that Python 3.11 and 3.12 call deprecated, and 3.13 does not any more.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding

        return get_encoding(name)
