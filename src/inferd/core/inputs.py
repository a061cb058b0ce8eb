"""What a caller asks, once understood: texts, items, query and documents, a chat."""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct


class InputType(StrEnum):
    """api.md 6.2; the two internal ones never come from a client."""

    INGEST = "ingest"
    SEARCH = "search"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    UNSPECIFIED = "unspecified"
    INTERNAL_INGEST = "internal_ingest"
    INTERNAL_SEARCH = "internal_search"

    @property
    def is_search(self) -> bool:
        return self in (InputType.SEARCH, InputType.INTERNAL_SEARCH)

    @property
    def is_ingest(self) -> bool:
        return self in (InputType.INGEST, InputType.INTERNAL_INGEST)

    @property
    def is_internal(self) -> bool:
        return self in (InputType.INTERNAL_INGEST, InputType.INTERNAL_SEARCH)


class Item(Struct, frozen=True):
    """One piece of content: text as it is, anything else as a base64 data URI."""

    value: str
    type: Literal["text", "image", "audio", "video", "pdf"] = "text"

    @property
    def format(self) -> str:
        return "text" if self.type == "text" else "base64"


class Texts(Struct, frozen=True):
    """Inputs of text_embedding, sparse_embedding and completion."""

    texts: tuple[str, ...]
    input_type: InputType | None = None


class Contents(Struct, frozen=True):
    """Inputs of the embedding task: one vector a group."""

    groups: tuple[tuple[Item, ...], ...]
    input_type: InputType | None = None


class RankQuery(Struct, frozen=True):
    """Inputs of rerank."""

    query: str | Item
    documents: tuple[str | Item, ...]
    top_n: int | None = None
    return_documents: bool | None = None


class TextPart(Struct, frozen=True, tag="text", tag_field="type"):
    text: str


class ImagePart(Struct, frozen=True, tag="image_url", tag_field="type"):
    url: str
    detail: str | None = None


class FilePart(Struct, frozen=True, tag="file", tag_field="type"):
    file_data: str
    filename: str | None = None


Part = TextPart | ImagePart | FilePart


class FunctionCall(Struct, frozen=True):
    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    id: str
    function: FunctionCall
    type: str = "function"


class Message(Struct, frozen=True):
    """One message of a chat. ``reasoning_details`` are kept as sent (api.md 7.2)."""

    role: str
    content: str | tuple[Part, ...] | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    reasoning: str | None = None
    reasoning_details: tuple[dict[str, Any], ...] | None = None
    name: str | None = None

    def text(self) -> str:
        """All text of the content, joined."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Function(Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True):
    function: Function
    type: str = "function"


class ToolChoice(Struct, frozen=True):
    """The object form: this function and no other."""

    name: str
    type: str = "function"


class Reasoning(Struct, frozen=True):
    effort: str | None = None
    enabled: bool | None = None
    summary: str | None = None
    exclude: bool | None = None


class Chat(Struct, frozen=True):
    """A chat completion request (api.md 7.2)."""

    messages: tuple[Message, ...]
    model: str | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | ToolChoice | None = None
    reasoning: Reasoning | None = None
    cache_control: dict[str, Any] | None = None
    session_id: str | None = None


Inputs = Texts | Contents | RankQuery | Chat
