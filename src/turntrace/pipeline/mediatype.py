"""What a structure says of its bytes: the media type, in any spelling of the key."""

import re
from collections.abc import Mapping
from typing import Any, Final

_SPELLINGS: Final = ("media_type", "mime_type", "mimeType", "mediaType")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,80}\Z")
_TEXT: Final = re.compile(r"text/|application/(?:[\w.-]+[+-])?(?:json|xml|yaml|javascript)\Z", re.IGNORECASE)


def stated_type(value: Mapping[Any, Any]) -> str | None:
    """The media type that is stated, or None where there is none that can be read."""
    for name in _SPELLINGS:
        found = value.get(name)
        if isinstance(found, str) and _MEDIA_TYPE.match(found):
            return found
    return None


def is_text(media_type: str) -> bool:
    """Whether bytes of that type are written as the text that they are."""
    return _TEXT.match(media_type) is not None
