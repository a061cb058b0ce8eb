"""Bodies in, typed requests out (api.md 2.3, 6.2, 6.4, 6.5, 7.2, 7.3).

Two ways that give the same values. The quick one is a single msgspec decode of the common forms. Whatever that refuses,
and whatever is large, is read token by token: that way alone knows the rules, the texts and the positions.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from inferd.api.elastic.media import json_body
from inferd.api.elastic.params import parse_duration
from inferd.api.elastic.positions import DEEPEST, Kind, Malformed, Tokens
from inferd.api.elastic.suggestions import did_you_mean
from inferd.api.http import Request
from inferd.core.inputs import (
    Chat,
    Contents,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    Inputs,
    InputType,
    Item,
    Message,
    Part,
    RankQuery,
    Reasoning,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.tasks import TaskType
from inferd.errors import (
    BadBody,
    BodyMissing,
    IllegalArgument,
    IllegalState,
    InferdError,
    InvalidRequest,
    TruncatedBody,
)

Question = tuple[Inputs, dict[str, Any]]
"""What is asked, and the request's task settings."""

_QUICK_INLINE = 256 * 1024
"""Bytes that are decoded in one piece, on the event loop; more is read token by token in a thread, where the loop gets its
turn."""
_INLINE = 16 * 1024
"""Bytes that are read token by token on the event loop."""

TEXTS = "cluster:internal/xpack/inference"
RERANK = "RerankRequest"
EMBEDDING = "EmbeddingRequest"
CHAT = "UnifiedCompletionRequestBody"
REGION_POLICY = "region_policy"
CCM = "cluster:admin/xpack/inference/ccm/put"


# What handlers call ------------------------------------------------------------------------------------------------


async def question(request: Request, task: TaskType, *, typed: bool) -> Question:
    """The body of POST _inference for this task; ``typed``: the task stands in the path."""
    body = await json_body(request)
    if not body:
        raise BodyMissing
    if len(body) <= _QUICK_INLINE:
        found = _quick(body, task)
        if found is not None:
            return _valid(found, task, typed=typed)
    return _valid(await _whole(body, _CAREFUL[task]), task, typed=typed)


async def settings(request: Request) -> dict[str, Any]:
    """The body of PUT and _update: any JSON object."""
    body = await json_body(request)
    if not body:
        raise BodyMissing
    return parse_object(body) if len(body) <= _INLINE else await asyncio.to_thread(parse_object, body)


async def region_policy(request: Request) -> dict[str, Any]:
    """The member ``region_policy`` (api.md 4.7)."""
    body = await json_body(request)
    if not body:
        raise BodyMissing("body is required")
    policy: dict[str, Any] = await _whole(body, _POLICY_BODY)
    return policy


async def ccm(request: Request) -> dict[str, Any]:
    """``api_key`` or ``enabled`` (api.md 4.8), validated."""
    body = await json_body(request)
    if not body:
        raise IllegalArgument("The body must be specified when configuring CCM.")
    wish: dict[str, Any] = await _whole(body, _CCM_BODY)
    return wish


def parse(body: bytes, task: TaskType, *, typed: bool = True, quick: bool = True) -> Question:
    """JSON bytes into what is asked. Errors: every 400 of the sections named above."""
    if quick:
        found = _quick(body, task)
        if found is not None:
            return _valid(found, task, typed=typed)
    return _valid(_read(body, _CAREFUL[task]), task, typed=typed)


def parse_object(body: bytes) -> dict[str, Any]:
    tokens = Tokens(body)
    if tokens.next() is not Kind.START_OBJECT:
        raise BadBody(f"{tokens.mark} Expected START_OBJECT but was: {tokens.kind}")
    value: dict[str, Any] = tokens.read()
    tokens.finish()
    return value


async def _whole(body: bytes, shape: "Shape[T]") -> "T":
    """The careful way, off the loop when the body is not small."""
    return _read(body, shape) if len(body) <= _INLINE else await asyncio.to_thread(_read, body, shape)


def _read(body: bytes, shape: "Shape[T]") -> "T":
    tokens = Tokens(body)
    tokens.next()
    value = shape.read(tokens)
    tokens.finish()
    return value


# Validation of the request object ----------------------------------------------------------------------------------


class _Given(NamedTuple):
    """A parsed body before it is validated; ``inputs`` None: there were none."""

    inputs: Inputs | None
    task_settings: dict[str, Any]


def _valid(given: _Given, task: TaskType, *, typed: bool) -> Question:
    faults = _faults(given.inputs, task, typed=typed)
    if faults or given.inputs is None:
        raise InvalidRequest(faults)
    return given.inputs, given.task_settings


_NO_INPUT_TYPE = (TaskType.SPARSE_EMBEDDING, TaskType.COMPLETION)


def _faults(inputs: Inputs | None, task: TaskType, *, typed: bool) -> list[str]:
    faults = []
    match inputs:
        case None:
            faults.append("Field [input] cannot be null")
        case Texts():
            if not inputs.texts:
                faults.append("Field [input] cannot be an empty array")
            if inputs.input_type is not None and typed and task in _NO_INPUT_TYPE:
                faults.append(f"Field [input_type] cannot be specified for task type [{task}]")
        case RankQuery():
            if not inputs.documents:
                faults.append("Field [input] cannot be an empty array")
            if inputs.query == "" or (isinstance(inputs.query, Item) and not inputs.query.value):
                faults.append("Field [query] cannot be empty")
            if inputs.top_n is not None and inputs.top_n < 1:
                faults.append("Field [top_n] must be greater than or equal to 1")
        case Contents():
            if not inputs.groups:
                faults.append("Field [inputs] cannot be an empty array")
        case Chat():
            if not inputs.messages:
                faults.append("Field [messages] cannot be an empty array")
    return faults


# The quick way -----------------------------------------------------------------------------------------------------


class _Strict(Struct, forbid_unknown_fields=True):
    """Nothing but what is named."""


class _TextBody(_Strict):
    input: str | tuple[str, ...]
    input_type: str | UnsetType = UNSET
    task_settings: dict[str, Any] | UnsetType = UNSET
    timeout: str | UnsetType = UNSET


class _RankBody(_Strict):
    query: str
    input: str | tuple[str, ...]
    top_n: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | UnsetType = UNSET
    return_documents: bool | UnsetType = UNSET
    task_settings: dict[str, Any] | UnsetType = UNSET


class _EmbeddingBody(_Strict):
    input: str | tuple[str, ...]
    input_type: str | UnsetType = UNSET
    task_settings: dict[str, Any] | UnsetType = UNSET


class _Text(_Strict, tag_field="type", tag="text"):
    text: str


class _ImageUrl(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | UnsetType = UNSET


class _Image(_Strict, tag_field="type", tag="image_url"):
    image_url: _ImageUrl


class _FunctionCall(_Strict):
    name: str
    arguments: str


class _ToolCall(_Strict):
    id: str
    type: str
    function: _FunctionCall


class _Message(_Strict):
    role: str
    content: str | tuple[_Text | _Image, ...] | None = None
    tool_call_id: str | UnsetType = UNSET
    tool_calls: tuple[_ToolCall, ...] | UnsetType = UNSET


class _Function(_Strict):
    name: str
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _Tool(_Strict):
    type: str
    function: _Function


class _ChatBody(_Strict):
    """The members most chats have; the others take the careful way."""

    messages: tuple[_Message, ...]
    model: str | UnsetType = UNSET
    max_completion_tokens: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType = UNSET
    stop: tuple[str, ...] | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    tools: tuple[_Tool, ...] | UnsetType = UNSET
    tool_choice: str | UnsetType = UNSET


_Body = _TextBody | _RankBody | _EmbeddingBody | _ChatBody

_INPUT_TYPES = {str(kind): kind for kind in InputType if not kind.is_internal}


def _quick(body: bytes, task: TaskType) -> _Given | None:
    """None: not one of the common forms, or not certain to be one."""
    decoder, names = _QUICK[task]
    try:
        decoded = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    for name in names:
        if body.count(name) > 1:
            return None
    return _from_quick(decoded)


def _from_quick(body: _Body) -> _Given | None:
    if isinstance(body, _ChatBody):
        chat = _chat_from_quick(body)
        return None if chat is None else _Given(chat, {})
    task_settings = body.task_settings or {}
    if task_settings and not _shallow(task_settings, 1):
        return None
    texts = (body.input,) if isinstance(body.input, str) else body.input
    if isinstance(body, _RankBody):
        return _Given(
            RankQuery(body.query, texts, _set(body.top_n), _set(body.return_documents)), task_settings
        )
    input_type = None
    if body.input_type is not UNSET:
        input_type = _INPUT_TYPES.get(body.input_type)
        if input_type is None:
            return None
    if isinstance(body, _TextBody):
        return _Given(Texts(texts, input_type), task_settings)
    return _Given(Contents(tuple((Item(text),) for text in texts), input_type), task_settings)


def _shallow(value: Any, depth: int) -> bool:
    if depth > DEEPEST:
        return False
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_shallow(member, depth + 1) for member in members)


V = TypeVar("V")


def _set(value: V | UnsetType) -> V | None:
    return None if isinstance(value, UnsetType) else value


def _chat_from_quick(body: _ChatBody) -> Chat | None:
    tools = _set(body.tools)
    if tools is not None and not all(_shallow(_set(tool.function.parameters) or {}, 3) for tool in tools):
        return None
    return Chat(
        messages=tuple(_message_from_quick(message) for message in body.messages),
        model=_set(body.model),
        max_completion_tokens=_set(body.max_completion_tokens),
        stop=_set(body.stop),
        temperature=_set(body.temperature),
        top_p=_set(body.top_p),
        tools=None if tools is None else tuple(_tool_from_quick(tool) for tool in tools),
        tool_choice=_set(body.tool_choice),
    )


def _message_from_quick(message: _Message) -> Message:
    content = message.content
    calls = _set(message.tool_calls)
    return Message(
        role=message.role,
        content=content
        if content is None or isinstance(content, str)
        else tuple(map(_part_from_quick, content)),
        tool_call_id=_set(message.tool_call_id),
        tool_calls=None
        if calls is None
        else tuple(
            ToolCall(call.id, FunctionCall(call.function.name, call.function.arguments), call.type)
            for call in calls
        ),
    )


def _part_from_quick(part: _Text | _Image) -> Part:
    if isinstance(part, _Text):
        return TextPart(part.text)
    return ImagePart(part.image_url.url, _set(part.image_url.detail))


def _tool_from_quick(tool: _Tool) -> Tool:
    function = tool.function
    return Tool(
        Function(function.name, _set(function.description), _set(function.parameters), _set(function.strict)),
        tool.type,
    )


def _names(body: type[_Strict]) -> tuple[bytes, ...]:
    return tuple(f'"{name}"'.encode() for name in body.__struct_fields__)


# ``"role"``, ``"content"`` and the like may come many times, so only the outer names are counted: what is given twice
# goes the careful way, which refuses it.
_QUICK: Mapping[TaskType, tuple[msgspec.json.Decoder[_Body], tuple[bytes, ...]]] = {
    task: (msgspec.json.Decoder(body), _names(body))
    for task, body in (
        (TaskType.TEXT_EMBEDDING, _TextBody),
        (TaskType.SPARSE_EMBEDDING, _TextBody),
        (TaskType.COMPLETION, _TextBody),
        (TaskType.RERANK, _RankBody),
        (TaskType.EMBEDDING, _EmbeddingBody),
        (TaskType.CHAT_COMPLETION, _ChatBody),
    )
}


# The careful way ---------------------------------------------------------------------------------------------------

T = TypeVar("T")
Reader = Callable[[Tokens], Any]


class Field(NamedTuple):
    """A member: the kinds of its first token, and how it is read (the cursor ends on the value's last token)."""

    kinds: frozenset[Kind]
    read: Reader


class Shape(Generic[T]):
    """An object with known members, the name it has in error texts, and what becomes of it."""

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Field],
        build: Callable[[dict[str, Any]], T],
        required: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.fields = fields
        self.build = build
        self.required = required

    def read(self, tokens: Tokens) -> T:
        """Errors: BadBody with a position; what ``build`` raises, and ``Required [..]``, as they are."""
        if tokens.kind is not Kind.START_OBJECT:
            raise BadBody(f"{tokens.mark} [{self.name}] Expected START_OBJECT but was: {tokens.kind}")
        members: dict[str, Any] = {}
        while tokens.next() is not Kind.END_OBJECT:
            self._member(tokens, members)
        missing = [name for name in self.required if name not in members]
        if missing:
            raise IllegalArgument(f"Required [{', '.join(missing)}]")
        return self.build(members)

    def _member(self, tokens: Tokens, members: dict[str, Any]) -> None:
        name: str = tokens.value
        field = self.fields.get(name)
        if field is None:
            raise BadBody(
                f"{tokens.mark} [{self.name}] unknown field [{name}]{did_you_mean(name, self.fields)}"
            )
        kind = tokens.next()
        if kind not in field.kinds:
            raise BadBody(f"{tokens.mark} [{self.name}] {name} doesn't support values of type: {kind}")
        try:
            members[name] = field.read(tokens)
        except (Malformed, TruncatedBody):
            raise
        except InferdError as error:
            raise BadBody(f"{tokens.mark} [{self.name}] failed to parse field [{name}]") from error


def _kinds(*kinds: Kind) -> frozenset[Kind]:
    return frozenset(kinds)


def _value(tokens: Tokens) -> Any:
    return tokens.read()


def _string_of(tokens: Tokens) -> str:
    """A string inside an array."""
    if tokens.kind is not Kind.VALUE_STRING:
        raise IllegalState(f"Can't get text on a {tokens.kind} at {tokens.mark[1:-1]}")
    text: str = tokens.value
    return text


def _items(read: Callable[[Tokens], T]) -> Callable[[Tokens], tuple[T, ...]]:
    """One value, or an array of them."""

    def several(tokens: Tokens) -> tuple[T, ...]:
        if tokens.kind is not Kind.START_ARRAY:
            return (read(tokens),)
        found = []
        while tokens.next() is not Kind.END_ARRAY:
            found.append(read(tokens))
        return tuple(found)

    return several


_PRIMITIVES = {"Integer": "int", "Long": "long"}


def _integer(name: str, bits: int) -> Reader:
    def read(tokens: Tokens) -> int:
        given = tokens.value
        try:
            number = (
                float(given) if isinstance(given, str) and not given.strip().lstrip("+-").isdigit() else given
            )
            whole = int(number)
        except (ValueError, OverflowError):
            raise IllegalArgument(f'For input string: "{given}"') from None
        if isinstance(number, float) and number != whole:
            raise IllegalArgument(f"{given} cannot be converted to {name} without data loss")
        if not -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1):
            raise IllegalArgument(
                f"Numeric value ({given}) out of range of {_PRIMITIVES[name]} "
                f"({-(2 ** (bits - 1))} - {2 ** (bits - 1) - 1})"
            )
        return whole

    return read


def _float(tokens: Tokens) -> float:
    try:
        number = float(tokens.value)
    except (ValueError, OverflowError):
        number = float("nan")
    if number - number != 0:
        raise IllegalArgument(f'For input string: "{tokens.value}"')
    return number


def _boolean(tokens: Tokens) -> bool:
    if isinstance(tokens.value, str):
        if tokens.value in ("true", "false"):
            return tokens.value == "true"
        raise IllegalArgument(
            f"Failed to parse value [{tokens.value}] as only [true] or [false] are allowed."
        )
    return bool(tokens.value)


_SCALARS = _kinds(Kind.VALUE_STRING, Kind.VALUE_NUMBER, Kind.VALUE_BOOLEAN, Kind.VALUE_NULL)
_NUMBERS = _kinds(Kind.VALUE_NUMBER, Kind.VALUE_STRING)

STRING = Field(_kinds(Kind.VALUE_STRING), _value)
STRINGS = Field(_kinds(Kind.VALUE_STRING, Kind.START_ARRAY), _items(_string_of))
INT = Field(_NUMBERS, _integer("Integer", 32))
LONG = Field(_NUMBERS, _integer("Long", 64))
FLOAT = Field(_NUMBERS, _float)
BOOLEAN = Field(_kinds(Kind.VALUE_BOOLEAN, Kind.VALUE_STRING), _boolean)
OBJECT = Field(_kinds(Kind.START_OBJECT), _value)
SCALAR = Field(_SCALARS, _value)


def _one(shape: Shape[Any]) -> Field:
    return Field(_kinds(Kind.START_OBJECT), shape.read)


def _many(shape: Shape[Any]) -> Field:
    return Field(_kinds(Kind.START_OBJECT, Kind.START_ARRAY), _items(shape.read))


# Texts


def _input_type(tokens: Tokens) -> InputType:
    """api.md 6.2; the internal ones are not for clients."""
    name: str = tokens.value
    try:
        kind = InputType(name.lower())
    except ValueError:
        raise IllegalArgument(
            f"No enum constant org.elasticsearch.inference.InputType.{name.upper()}"
        ) from None
    if kind.is_internal:
        raise IllegalArgument(f"Unrecognized input_type [{kind}]")
    return kind


def _texts(tokens: Tokens) -> tuple[str, ...] | None:
    return None if tokens.kind is Kind.VALUE_NULL else _items(_string_of)(tokens)


INPUT_TYPE = Field(_kinds(Kind.VALUE_STRING), _input_type)


def _text_request(members: dict[str, Any]) -> _Given:
    texts = members.get("input")
    inputs = None if texts is None else Texts(texts, members.get("input_type"))
    return _Given(inputs, members.get("task_settings", {}))


_TEXTS = Shape(
    TEXTS,
    {
        "input": Field(_kinds(Kind.VALUE_STRING, Kind.START_ARRAY, Kind.VALUE_NULL), _texts),
        "input_type": INPUT_TYPE,
        "task_settings": OBJECT,
        "timeout": SCALAR,
    },
    _text_request,
)


# Items: text, and what is not text

_DATA_URI_WITHIN = 256
ITEM_TYPES = ("text", "image", "audio", "video", "pdf")
_NOT_A_DATA_URI = "base64 inputs must be specified as data URIs with the format [data:{MIME-type};base64,...]"


def _item(members: dict[str, Any]) -> Item:
    """api.md 6.5. Of a rerank item too; its ``type`` is looked at by its reader."""
    kind = members["type"]
    if kind not in ITEM_TYPES:
        raise IllegalArgument(f"Unrecognized type [{kind}], must be one of [{', '.join(ITEM_TYPES)}]")
    fitting = "text" if kind == "text" else "base64"
    given = members.get("format", fitting)
    if given.lower() != fitting:
        raise IllegalArgument(
            f"Data type [{kind}] does not support data format [{given}], supported formats are [{fitting}]"
        )
    value: str = members["value"]
    if fitting == "base64" and not _is_data_uri(value):
        raise IllegalArgument(_NOT_A_DATA_URI)
    return Item(value, kind)


def _is_data_uri(value: str) -> bool:
    head, found, _ = value[:_DATA_URI_WITHIN].partition(";base64,")
    kind, slash, subtype = head.removeprefix("data:").partition("/")
    return bool(found and slash and kind and subtype) and head.startswith("data:")


_ITEM_FIELDS = {"type": STRING, "format": STRING, "value": STRING}
_ITEM = Shape("InferenceString", _ITEM_FIELDS, _item, ("type", "value"))


# Rerank

_RANKED_TYPES = ("text", "image")


def _ranked(field: str) -> Callable[[Tokens], str | Item]:
    def build(members: dict[str, Any]) -> Item:
        if members["type"] not in _RANKED_TYPES:
            raise IllegalArgument(
                f"Field [{field}] contains unsupported [type] value [{members['type']}]. "
                f"Supported values are [{', '.join(_RANKED_TYPES)}]"
            )
        return _item(members)

    shape = Shape("InferenceString", _ITEM_FIELDS, build, ("type", "value"))

    def read(tokens: Tokens) -> str | Item:
        if tokens.kind is not Kind.START_OBJECT:
            return _string_of(tokens)
        item = shape.read(tokens)
        return item.value if item.type == "text" else item

    return read


def _rank_request(members: dict[str, Any]) -> _Given:
    inputs = RankQuery(
        members["query"], members["input"], members.get("top_n"), members.get("return_documents")
    )
    return _Given(inputs, members.get("task_settings", {}))


_RANK = Shape(
    RERANK,
    {
        "input": Field(
            _kinds(Kind.VALUE_STRING, Kind.START_OBJECT, Kind.START_ARRAY), _items(_ranked("input"))
        ),
        "query": Field(_kinds(Kind.VALUE_STRING, Kind.START_OBJECT), _ranked("query")),
        "top_n": INT,
        "return_documents": BOOLEAN,
        "task_settings": OBJECT,
    },
    _rank_request,
    ("input", "query"),
)


# Embedding


def _content(tokens: Tokens) -> tuple[Item, ...]:
    items = _items(_ITEM.read)(tokens)
    if not items:
        raise IllegalArgument("[content] field cannot be an empty array")
    return items


_GROUP: Shape[tuple[Item, ...]] = Shape(
    "InferenceStringGroup",
    {"content": Field(_kinds(Kind.START_OBJECT, Kind.START_ARRAY), _content)},
    lambda members: members["content"],
    ("content",),
)


def _group(tokens: Tokens) -> tuple[Item, ...]:
    if tokens.kind is Kind.START_OBJECT:
        return _GROUP.read(tokens)
    return (Item(_string_of(tokens)),)


def _embedding_request(members: dict[str, Any]) -> _Given:
    return _Given(Contents(members["input"], members.get("input_type")), members.get("task_settings", {}))


_EMBEDDING = Shape(
    EMBEDDING,
    {
        "input": Field(_kinds(Kind.VALUE_STRING, Kind.START_OBJECT, Kind.START_ARRAY), _items(_group)),
        "input_type": INPUT_TYPE,
        "task_settings": OBJECT,
    },
    _embedding_request,
    ("input",),
)


# Chat

DETAILS = ("auto", "low", "high")
EFFORTS = ("xhigh", "high", "medium", "low", "minimal", "none")
SUMMARIES = ("auto", "concise", "detailed")


def _message_content(tokens: Tokens) -> str | tuple[Part, ...] | None:
    """``null`` is what many clients send beside tool calls: no content."""
    if tokens.kind is Kind.VALUE_NULL:
        return None
    if tokens.kind is Kind.VALUE_STRING:
        text: str = tokens.value
        return text
    if tokens.kind is not Kind.START_ARRAY:
        raise BadBody(
            f"Expected an array start token or a value string token but found token [{tokens.kind}]"
        )
    parts = []
    while (kind := tokens.next()) is not Kind.END_ARRAY:
        if kind is not Kind.START_OBJECT:
            raise BadBody(f"Expected an object start token but found token [{kind}]")
        parts.append(_part(tokens.read()))
    return tuple(parts)


def _part(members: dict[str, Any]) -> Part:
    kind = _taken(members, "type", "content", str)
    match kind:
        case "text":
            part: Part = TextPart(_taken(members, "text", "content", str))
        case "image_url":
            part = _image(_taken(members, "image_url", "content", dict))
        case "file":
            part = _file(_taken(members, "file", "content", dict))
        case _:
            raise _unrecognised(kind, "content", ("text", "image_url", "file"))
    _nothing_left(members, "content")
    return part


def _image(members: dict[str, Any]) -> ImagePart:
    url = _taken(members, "url", "image_url", str)
    detail = _taken(members, "detail", "image_url", str, None)
    if detail is not None and detail not in DETAILS:
        raise _unrecognised(detail, "url", DETAILS)
    _nothing_left(members, "image_url")
    return ImagePart(url, detail)


def _file(members: dict[str, Any]) -> FilePart:
    if "file_id" in members:
        raise BadBody("Field [file_id] is not supported for content of type [file]")
    part = FilePart(_taken(members, "file_data", "file", str), _taken(members, "filename", "file", str))
    _nothing_left(members, "file")
    return part


_JAVA_NAMES = {str: "String", bool: "Boolean", float: "Double", list: "ArrayList", dict: "Map"}
_MUST = object()


def _taken(members: dict[str, Any], name: str, owner: str, kind: type[T], default: Any = _MUST) -> T:
    """The member removed from the map. Errors: in the words of api.md 7.3."""
    value = members.pop(name, None)
    if value is None:
        if default is _MUST:
            raise BadBody(f"Field [{name}] in object [{owner}] is required but was not found")
        missing: T = default
        return missing
    if not isinstance(value, kind):
        raise BadBody(
            f"Field [{name}] in object [{owner}] is not of the expected type. "
            f"Expected [{_JAVA_NAMES[kind]}] but was [{_java_name(value)}]"
        )
    return value


def _java_name(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            "Integer" if -(2**31) <= value < 2**31 else "Long" if -(2**63) <= value < 2**63 else "BigInteger"
        )
    return _JAVA_NAMES[type(value)]


def _unrecognised(value: str, owner: str, known: tuple[str, ...]) -> BadBody:
    return BadBody(f"Unrecognized type [{value}] in object [{owner}], must be one of [{', '.join(known)}]")


def _nothing_left(members: dict[str, Any], owner: str) -> None:
    if members:
        raise BadBody(f"[{owner}] contains unknown fields [{', '.join(members)}]")


_DETAIL_KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "reasoning.encrypted": (("data",), ()),
    "reasoning.summary": (("summary",), ()),
    "reasoning.text": ((), ("text", "signature")),
}


def _reasoning_detail(tokens: Tokens) -> dict[str, Any]:
    """An item of ``reasoning_details`` as sent, once checked."""
    if tokens.kind is not Kind.START_OBJECT:
        raise BadBody(f"Expected an object start token but found token [{tokens.kind}]")
    given: dict[str, Any] = tokens.read()
    left = dict(given)
    owner = "reasoning_details"
    kind = _taken(left, "type", owner, str)
    if kind not in _DETAIL_KINDS:
        raise _unrecognised(kind, owner, tuple(_DETAIL_KINDS))
    required, optional = _DETAIL_KINDS[kind]
    for name in required:
        _taken(left, name, owner, str)
    for name in ("format", "id", *optional):
        _taken(left, name, owner, str, None)
    index = left.pop("index", None)
    if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
        raise BadBody(
            f"Field [index] in object [{owner}] is not of the expected type. "
            f"Expected [Long] but was [{_java_name(index)}]"
        )
    _nothing_left(left, owner)
    return given


_TOOL_CALL = Shape(
    "ToolCall",
    {
        "id": STRING,
        "function": _one(
            Shape(
                "tool_call_function_field",
                {"arguments": STRING, "name": STRING},
                lambda m: FunctionCall(m["name"], m["arguments"]),
                ("arguments", "name"),
            )
        ),
        "type": STRING,
    },
    lambda m: ToolCall(m["id"], m["function"], m["type"]),
    ("id", "function", "type"),
)

_MESSAGE = Shape(
    "Message",
    {
        "content": Field(_SCALARS | {Kind.START_ARRAY, Kind.START_OBJECT}, _message_content),
        "role": STRING,
        "tool_call_id": STRING,
        "tool_calls": _many(_TOOL_CALL),
        "reasoning": STRING,
        "reasoning_details": Field(_kinds(Kind.START_ARRAY, Kind.START_OBJECT), _items(_reasoning_detail)),
    },
    lambda members: Message(**members),
    ("role",),
)

_TOOL = Shape(
    "Tool",
    {
        "type": STRING,
        "function": _one(
            Shape(
                "tool_function_field",
                {"description": STRING, "name": STRING, "parameters": OBJECT, "strict": BOOLEAN},
                lambda members: Function(**members),
                ("name",),
            )
        ),
    },
    lambda m: Tool(m["function"], m["type"]),
    ("type", "function"),
)

_TOOL_CHOICE = Shape(
    "ToolChoice",
    {
        "type": STRING,
        "function": _one(
            Shape("tool_choice_function_field", {"name": STRING}, lambda m: m["name"], ("name",))
        ),
    },
    lambda m: ToolChoice(m["function"], m["type"]),
    ("type", "function"),
)


def _tool_choice(tokens: Tokens) -> str | ToolChoice:
    return tokens.value if tokens.kind is Kind.VALUE_STRING else _TOOL_CHOICE.read(tokens)


def _reasoning(members: dict[str, Any]) -> Reasoning:
    effort, enabled = members.get("effort"), members.get("enabled")
    if effort is None and enabled is None:
        raise BadBody("Required one of fields [effort, enabled], but none were specified. ")
    if effort is None and not enabled:
        raise BadBody("When [enabled] is false, [effort] must be specified.")
    return Reasoning(effort or "medium", enabled, members.get("summary"), members.get("exclude"))


def _word(owner: str, known: tuple[str, ...]) -> Field:
    def read(tokens: Tokens) -> str:
        word: str = tokens.value
        if word not in known:
            raise _unrecognised(word, owner, known)
        return word

    return Field(_kinds(Kind.VALUE_STRING), read)


_REASONING = Shape(
    "Reasoning",
    {
        "effort": _word("effort", EFFORTS),
        "enabled": BOOLEAN,
        "summary": _word("summary", SUMMARIES),
        "exclude": BOOLEAN,
    },
    _reasoning,
)


def _ttl(tokens: Tokens) -> str:
    parse_duration("ttl", tokens.value)
    text: str = tokens.value
    return text


_CACHE_CONTROL: Shape[dict[str, Any]] = Shape(
    "CacheControl",
    {"type": STRING, "ttl": Field(_kinds(Kind.VALUE_STRING), _ttl)},
    lambda members: members,
)

_CHAT = Shape(
    CHAT,
    {
        "messages": _many(_MESSAGE),
        "model": STRING,
        "max_completion_tokens": LONG,
        "stop": STRINGS,
        "temperature": FLOAT,
        "tool_choice": Field(_kinds(Kind.VALUE_STRING, Kind.START_OBJECT), _tool_choice),
        "tools": _many(_TOOL),
        "top_p": FLOAT,
        "reasoning": _one(_REASONING),
        "cache_control": _one(_CACHE_CONTROL),
        "session_id": STRING,
    },
    lambda members: _Given(Chat(**members), {}),
    ("messages",),
)

_CAREFUL: Mapping[TaskType, Shape[_Given]] = {
    TaskType.TEXT_EMBEDDING: _TEXTS,
    TaskType.SPARSE_EMBEDDING: _TEXTS,
    TaskType.COMPLETION: _TEXTS,
    TaskType.RERANK: _RANK,
    TaskType.EMBEDDING: _EMBEDDING,
    TaskType.CHAT_COMPLETION: _CHAT,
}


# Region policy and CCM


def _policy(members: dict[str, Any]) -> dict[str, Any]:
    if len(members) > 1:
        raise IllegalArgument(
            "The following fields are not allowed together: [allowed_geos, allowed_regions] "
        )
    if not members:
        raise IllegalArgument(
            "Required one of fields [allowed_geos, allowed_regions], but none were specified. "
        )
    return {name: list(values) for name, values in members.items()}


_POLICY_REGION: Shape[dict[str, Any]] = Shape(
    REGION_POLICY, {"csp": STRING, "region": STRING}, lambda members: members, ("csp", "region")
)
_POLICY_BODY: Shape[dict[str, Any]] = Shape(
    REGION_POLICY,
    {
        "region_policy": _one(
            Shape(REGION_POLICY, {"allowed_geos": STRINGS, "allowed_regions": _many(_POLICY_REGION)}, _policy)
        )
    },
    lambda members: members["region_policy"],
    ("region_policy",),
)


def _ccm_wish(members: dict[str, Any]) -> dict[str, Any]:
    faults = []
    if not members:
        faults.append("At least one of [api_key] or [enabled] must be provided")
    if len(members) > 1:
        faults.append("Only one of [api_key] or [enabled] can be provided but not both")
    elif members.get("enabled") is True:
        faults.append(
            "The [enabled] field must be set to [false] when disabling CCM, otherwise omit it and provide the "
            "[api_key] field instead"
        )
    elif members.get("api_key") == "":
        faults.append("The [api_key] field cannot be an empty string")
    if faults:
        raise InvalidRequest(faults)
    return members


_CCM_BODY = Shape(CCM, {"api_key": STRING, "enabled": BOOLEAN}, _ccm_wish)
