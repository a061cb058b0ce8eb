"""Images and files of a chat as vendors with their own message format take them, and the arguments of tool calls."""

import base64
import binascii
import re
from typing import Any

import msgspec
from msgspec import Struct

from inferd.core.inputs import FilePart, ImagePart, ToolCall
from inferd.errors import StatusError

_DATA_URI = re.compile(r"data:([^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)


class Attachment(Struct, frozen=True):
    """``media_type`` in lower case (``image/png``); ``data`` in base64."""

    media_type: str
    data: str
    filename: str | None = None

    @property
    def family(self) -> str:
        return self.media_type.partition("/")[0]

    def text(self) -> str:
        """The content as UTF-8 text; a 400 when it is not."""
        try:
            return base64.b64decode(self.data, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise StatusError(
                400, f"The file of type [{self.media_type}] is not valid base64 of UTF-8 text"
            ) from None


def attachment(part: ImagePart | FilePart) -> Attachment:
    """What a base64 data URI holds; anything else is a 400."""
    name, value = ("url", part.url) if isinstance(part, ImagePart) else ("file_data", part.file_data)
    found = _DATA_URI.match(value)
    if found is None:
        raise StatusError(400, f"Field [{name}] must be a data URI with base64 content")
    filename = part.filename if isinstance(part, FilePart) else None
    return Attachment(found[1].strip().lower(), value[found.end() :], filename)


def is_remote(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def arguments(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as the object they are the JSON of; empty text is an empty object."""
    text = call.function.arguments
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StatusError(400, "Failed to parse function arguments")
    return value
