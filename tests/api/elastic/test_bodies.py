"""Bodies of the Elasticsearch dialect (api.md 2.3, 6.2, 6.4, 6.5, 7.2, 7.3, 4.7, 4.8)."""

import asyncio
import gzip
import json

import pytest
from asked import asked
from hypothesis import given
from hypothesis import strategies as st

from inferd.api.elastic import bodies
from inferd.api.elastic.bodies import parse, parse_object
from inferd.core.inputs import (
    Chat,
    Contents,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    InputType,
    Item,
    Message,
    RankQuery,
    Reasoning,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.tasks import TaskType
from inferd.errors import BadBody, BodyMissing, IllegalArgument, InferdError, InvalidRequest, TruncatedBody

TEXT, SPARSE, COMPLETION = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.COMPLETION
RERANK, EMBEDDING, CHAT = TaskType.RERANK, TaskType.EMBEDDING, TaskType.CHAT_COMPLETION
TASKS = (TEXT, SPARSE, COMPLETION, RERANK, EMBEDDING, CHAT)


def outcome(body: bytes | str, task: TaskType, *, typed=True, quick=True):
    """The parsed question, or the error's type, reason and innermost reason."""
    try:
        return parse(body.encode() if isinstance(body, str) else body, task, typed=typed, quick=quick)
    except InferdError as error:
        inner: BaseException = error
        while inner.__cause__ is not None:
            inner = inner.__cause__
        return (type(error), error.reason, inner.reason)


def both(body: bytes | str, task: TaskType, **more):
    """The outcome, after making sure that the quick and the careful way agree."""
    quick, careful = outcome(body, task, **more), outcome(body, task, quick=False, **more)
    assert quick == careful
    return quick


def given_as(body: str, task: TaskType, **more):
    """The inputs of a good body."""
    inputs, _ = both(body, task, **more)
    return inputs


def fault(body: bytes | str, task: TaskType, **more) -> str:
    """The reason a bad body is refused for."""
    return both(body, task, **more)[1]


INFERENCE = "[cluster:internal/xpack/inference]"

# text_embedding, sparse_embedding, completion


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"input":"a"}', Texts(("a",))),
        ('{"input":["a",""]}', Texts(("a", ""))),
        ('{"input":""}', Texts(("",))),
        (' {"timeout":"30s" , "input" : "a"}\n', Texts(("a",))),
        ('{"input":"a","timeout":30}', Texts(("a",))),
        ('{"input":"a","input_type":"SEARCH"}', Texts(("a",), InputType.SEARCH)),
        ('{"input":"a","input_type":"unspecified"}', Texts(("a",), InputType.UNSPECIFIED)),
        ('{"input":"\\u0000\\ud83d\\ude00 \\"q\\""}', Texts(("\0😀 \"q\"",))),
        ('{"input":["\\ud800","a\\udc00b"]}', Texts(("\ufffd", "a\ufffdb"))),
        ('\ufeff{"input":"a"}', Texts(("a",))),
    ],
)  # fmt: skip
def test_texts(body, expected):
    """One text or several, in any letter case of the input type; unpaired surrogates become U+FFFD."""
    assert given_as(body, TEXT) == expected


def test_task_settings_are_kept_as_sent():
    """Any object, with integers as integers."""
    assert both('{"input":"a","task_settings":{"a":[1,2.5,null,{"b":true}]}}', TEXT)[1] == {
        "a": [1, 2.5, None, {"b": True}]
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{}", "Validation Failed: 1: Field [input] cannot be null;"),
        ('{"input":null}', "Validation Failed: 1: Field [input] cannot be null;"),
        ('{"input":[]}', "Validation Failed: 1: Field [input] cannot be an empty array;"),
        ('{"inpt":"a"}', f"[1:2] {INFERENCE} unknown field [inpt] did you mean [input]?"),
        ('{\n  "input": "a",\n  "query": "b"}', f"[3:3] {INFERENCE} unknown field [query]"),
        ('{"top_n":1}', f"[1:2] {INFERENCE} unknown field [top_n]"),
        ('{"input":{"a":1}}', f"[1:10] {INFERENCE} input doesn't support values of type: START_OBJECT"),
        ('{"input":5}', f"[1:10] {INFERENCE} input doesn't support values of type: VALUE_NUMBER"),
        ('{"input":true}', f"[1:10] {INFERENCE} input doesn't support values of type: VALUE_BOOLEAN"),
        ('{"input":["a",{}]}', f"[1:15] {INFERENCE} failed to parse field [input]"),
        ('{"input":"a","task_settings":null}', f"[1:30] {INFERENCE} task_settings doesn't support values of type: VALUE_NULL"),
        ('{"input":"a","task_settings":[]}', f"[1:30] {INFERENCE} task_settings doesn't support values of type: START_ARRAY"),
        ('{"input":"a","input_type":null}', f"[1:27] {INFERENCE} input_type doesn't support values of type: VALUE_NULL"),
        ('{"input":"a","input":"b"}', "[1:14] Duplicate field 'input'"),
        ("[]", f"[1:1] {INFERENCE} Expected START_OBJECT but was: START_ARRAY"),
        ('"a"', f"[1:1] {INFERENCE} Expected START_OBJECT but was: VALUE_STRING"),
        ("null", f"[1:1] {INFERENCE} Expected START_OBJECT but was: VALUE_NULL"),
        ('{"input":"a"}]', "[1:14] Unexpected character (']' (code 93)): expected the end of the body"),
        ("{input:1}", "[1:2] Unexpected character ('i' (code 105)): was expecting double-quote to start field name"),
        ('{"input":"é"x', "[1:14] Unexpected character ('x' (code 120)): was expecting comma to separate Object entries"),
        ('{"input":', "[1:10] Unexpected end-of-input within Object"),
        ('{"input":["a', "[1:13] Unexpected end-of-input within Array"),
        ("  ", "[1:3] Unexpected end-of-input"),
    ],
)  # fmt: skip
def test_texts_refused(body, reason):
    """Each with the line and column of its token."""
    assert fault(body, TEXT) == reason


def test_truncated_json_has_a_type_of_its_own():
    """x_content_e_o_f_exception when the body ends too early, x_content_parse_exception for anything else."""
    assert both('{"input":', TEXT)[0] is TruncatedBody
    assert both(b'{"input":"\xff"}', TEXT)[1:] == ("[1:11] Invalid UTF-8 byte 0xff",) * 2
    assert both(b'{"input":"a\nb"}', TEXT)[1].startswith("[1:12] Illegal unquoted character")


def test_input_types():
    """Unknown ones and the internal ones are refused with the value's position and their cause."""
    told = both('{"input":"a","input_type":"foo"}', TEXT)
    assert told == (
        BadBody,
        f"[1:27] {INFERENCE} failed to parse field [input_type]",
        "No enum constant org.elasticsearch.inference.InputType.FOO",
    )
    for name in ("internal_search", "INTERNAL_INGEST"):
        assert (
            both(f'{{"input":"a","input_type":"{name}"}}', TEXT)[2]
            == f"Unrecognized input_type [{name.lower()}]"
        )


def test_input_type_is_for_text_embedding():
    """Refused when the path says another task, taken when the path says none; the faults add up."""
    body = '{"input":[],"input_type":"search"}'
    for task in (SPARSE, COMPLETION):
        assert fault(body, task) == (
            "Validation Failed: 1: Field [input] cannot be an empty array;"
            f"2: Field [input_type] cannot be specified for task type [{task}];"
        )
    assert given_as('{"input":"a","input_type":"search"}', SPARSE, typed=False) == Texts(
        ("a",), InputType.SEARCH
    )


# rerank


def test_rank_queries():
    """Strings, objects, one document or many; numbers and booleans may be strings."""
    assert given_as(
        '{"query":"q","input":["a","b"],"top_n":2,"return_documents":false}', RERANK
    ) == RankQuery("q", ("a", "b"), 2, False)
    assert given_as('{"query":"q","input":"a","top_n":"2","return_documents":"true"}', RERANK) == RankQuery(
        "q", ("a",), 2, True
    )
    image = "data:image/png;base64,AA=="
    body = {
        "query": {"type": "text", "value": "q"},
        "input": [{"type": "image", "format": "base64", "value": image}, "b"],
    }
    assert given_as(json.dumps(body), RERANK) == RankQuery("q", (Item(image, "image"), "b"))
    assert both('{"query":"q","input":"a","task_settings":{"x":1}}', RERANK)[1] == {"x": 1}


@pytest.mark.parametrize(
    ("body", "reason", "innermost"),
    [
        ("{}", "Required [input, query]", None),
        ('{"input":["a"]}', "Required [query]", None),
        ('{"query":"q"}', "Required [input]", None),
        (
            '{"query":"","input":[],"top_n":0}',
            "Validation Failed: 1: Field [input] cannot be an empty array;2: Field [query] cannot be empty;"
            "3: Field [top_n] must be greater than or equal to 1;",
            None,
        ),
        ('{"query":"q","input":"a","input_type":"search"}', "[1:26] [RerankRequest] unknown field [input_type]", None),
        ('{"query":"q","input":"a","top_n":null}', "[1:34] [RerankRequest] top_n doesn't support values of type: VALUE_NULL", None),
        ('{"query":"q","input":"a","top_n":1.5}', "[1:34] [RerankRequest] failed to parse field [top_n]", "1.5 cannot be converted to Integer without data loss"),
        (
            '{"query":"q","input":"a","top_n":4294967296}',
            "[1:34] [RerankRequest] failed to parse field [top_n]",
            "Numeric value (4294967296) out of range of int (-2147483648 - 2147483647)",
        ),
        ('{"query":"q","input":"a","top_n":"x"}', "[1:34] [RerankRequest] failed to parse field [top_n]", 'For input string: "x"'),
        (
            '{"query":{"type":"audio","value":"x"},"input":"a"}',
            "[1:37] [RerankRequest] failed to parse field [query]",
            "Field [query] contains unsupported [type] value [audio]. Supported values are [text, image]",
        ),
        (
            '{"query":"q","input":[{"type":"video","value":"x"}]}',
            "[1:50] [RerankRequest] failed to parse field [input]",
            "Field [input] contains unsupported [type] value [video]. Supported values are [text, image]",
        ),
        ('{"query":"q","input":[{"type":"text"}]}', "[1:37] [RerankRequest] failed to parse field [input]", "Required [value]"),
        ('{"query":"q","input":"a","return_documents":"yes"}', "[1:45] [RerankRequest] failed to parse field [return_documents]", "Failed to parse value [yes] as only [true] or [false] are allowed."),
    ],
)  # fmt: skip
def test_rank_queries_refused(body, reason, innermost):
    """To the letter of api.md 6.4; what is not pinned there in the reference's general words."""
    assert both(body, RERANK)[1:] == (reason, innermost or reason)


# embedding

PNG = "data:image/png;base64,AA=="


def test_contents():
    """A string, strings, an item, several items for one vector, and a mixture."""
    hi = (Item("hi"),)
    assert given_as('{"input":"hi"}', EMBEDDING) == Contents((hi,))
    assert given_as('{"input":["hi","hi"],"input_type":"ingest"}', EMBEDDING) == Contents(
        (hi, hi), InputType.INGEST
    )
    item = {"type": "image", "value": PNG}
    assert given_as(json.dumps({"input": {"content": item}}), EMBEDDING) == Contents(((Item(PNG, "image"),),))
    mixed = {"input": ["hi", {"content": [item, {"type": "text", "format": "text", "value": "x"}]}]}
    assert given_as(json.dumps(mixed), EMBEDDING) == Contents((hi, (Item(PNG, "image"), Item("x"))))


@pytest.mark.parametrize(
    ("given_input", "innermost"),
    [
        ({"content": []}, "[content] field cannot be an empty array"),
        ({"content": {"type": "image", "format": "text", "value": "x"}}, "Data type [image] does not support data format [text], supported formats are [base64]"),
        ({"content": {"type": "text", "format": "base64", "value": "x"}}, "Data type [text] does not support data format [base64], supported formats are [text]"),
        ({"content": {"type": "image", "value": "abc"}}, "base64 inputs must be specified as data URIs with the format [data:{MIME-type};base64,...]"),
        ({"content": {"type": "pdf", "value": "data:" + "a" * 300 + "/b;base64,"}}, "base64 inputs must be specified as data URIs with the format [data:{MIME-type};base64,...]"),
        ({"content": {"type": "film", "value": PNG}}, "Unrecognized type [film], must be one of [text, image, audio, video, pdf]"),
        ({"content": {"value": "x"}}, "Required [type]"),
        ({}, "Required [content]"),
    ],
)  # fmt: skip
def test_contents_refused(given_input, innermost):
    """The innermost cause, to the letter of api.md 6.5."""
    kind, reason, inner = both(json.dumps({"input": [given_input]}), EMBEDDING)
    assert kind is BadBody
    assert reason.endswith("[EmbeddingRequest] failed to parse field [input]")
    assert inner == innermost


def test_no_contents():
    """Missing is not the same as empty."""
    assert both("{}", EMBEDDING)[:2] == (IllegalArgument, "Required [input]")
    assert (
        fault('{"input":[]}', EMBEDDING) == "Validation Failed: 1: Field [inputs] cannot be an empty array;"
    )


# chat_completion

USER = {"role": "user", "content": "hi"}


def chat(**members) -> str:
    return json.dumps({"messages": [USER], **members}, separators=(",", ":"))


def test_a_common_chat():
    """The members that most chats have."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = json.dumps(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "r", "tool_call_id": "1"},
            ],
            "max_completion_tokens": 5, "stop": ["x"], "temperature": 1, "top_p": 0.5,
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"a": {}}, "strict": True}}],
            "tool_choice": "auto",
        }
    )  # fmt: skip
    expected = Chat(
        messages=(
            Message("system", (TextPart("t"), ImagePart(PNG, "low"))),
            Message("assistant", tool_calls=(ToolCall("1", FunctionCall("f", "{}"), "function"),)),
            Message("tool", "r", tool_call_id="1"),
        ),
        model="m",
        max_completion_tokens=5,
        stop=("x",),
        temperature=1.0,
        top_p=0.5,
        tools=(Tool(Function("f", "d", {"a": {}}, True)),),
        tool_choice="auto",
    )
    assert given_as(body, CHAT) == expected


def test_an_uncommon_chat():
    """Files, reasoning, a chosen tool, numbers in strings, a single stop."""
    details = [
        {"type": "reasoning.text", "text": "t", "signature": "s", "id": "i", "index": 0, "format": "f"}
    ]
    message = {
        "role": "assistant",
        "content": [{"type": "file", "file": {"file_data": "data:a/b;base64,", "filename": "n"}}],
        "reasoning": "r",
        "reasoning_details": details,
    }
    body = chat(
        messages=[message],
        stop="x",
        temperature="0.5",
        max_completion_tokens="7",
        tool_choice={"type": "function", "function": {"name": "f"}},
        reasoning={"enabled": True, "summary": "auto", "exclude": False},
        cache_control={"type": "ephemeral", "ttl": "5m"},
        session_id="s",
    )
    assert given_as(body, CHAT) == Chat(
        messages=(
            Message(
                "assistant",
                (FilePart("data:a/b;base64,", "n"),),
                reasoning="r",
                reasoning_details=tuple(details),
            ),
        ),
        stop=("x",),
        temperature=0.5,
        max_completion_tokens=7,
        tool_choice=ToolChoice("f"),
        reasoning=Reasoning("medium", True, "auto", False),
        cache_control={"type": "ephemeral", "ttl": "5m"},
        session_id="s",
    )
    assert given_as(chat(reasoning={"enabled": False, "effort": "low"}), CHAT).reasoning == Reasoning(
        "low", False
    )


def part(**members) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [members]}]}


IMAGE = {"type": "image_url"}


@pytest.mark.parametrize(
    ("body", "innermost"),
    [
        ({"messages": [{"role": "u", "content": 1}]}, "Expected an array start token or a value string token but found token [VALUE_NUMBER]"),
        ({"messages": [{"role": "u", "content": {}}]}, "Expected an array start token or a value string token but found token [START_OBJECT]"),
        (part(text="a"), "Field [type] in object [content] is required but was not found"),
        (part(type=1), "Field [type] in object [content] is not of the expected type. Expected [String] but was [Integer]"),
        (part(type="audio"), "Unrecognized type [audio] in object [content], must be one of [text, image_url, file]"),
        (part(type="text", text=1), "Field [text] in object [content] is not of the expected type. Expected [String] but was [Integer]"),
        (part(type="text", text=2**40), "Field [text] in object [content] is not of the expected type. Expected [String] but was [Long]"),
        (part(type="text", text=True), "Field [text] in object [content] is not of the expected type. Expected [String] but was [Boolean]"),
        (part(type="text", text="a", foo=1), "[content] contains unknown fields [foo]"),
        (part(type="file", file={"file_id": "x"}), "Field [file_id] is not supported for content of type [file]"),
        (part(**IMAGE, image_url={"url": "u", "detail": "x"}), "Unrecognized type [x] in object [url], must be one of [auto, low, high]"),
        (part(**IMAGE, image_url={}), "Field [url] in object [image_url] is required but was not found"),
        ({"messages": [{"content": "x"}]}, "Required [role]"),
        ({"messages": [USER], "reasoning": {}}, "Required one of fields [effort, enabled], but none were specified. "),
        ({"messages": [USER], "reasoning": {"enabled": False}}, "When [enabled] is false, [effort] must be specified."),
        ({"messages": [USER], "reasoning": {"effort": "x"}}, "Unrecognized type [x] in object [effort], must be one of [xhigh, high, medium, low, minimal, none]"),
        ({"messages": [USER], "reasoning": {"effort": "low", "summary": "x"}}, "Unrecognized type [x] in object [summary], must be one of [auto, concise, detailed]"),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "Required [function]"),
        ({"messages": [USER], "tool_choice": {"type": "function", "function": {}}}, "Required [name]"),
        ({"messages": [{"role": "a", "tool_calls": [{"id": "1", "type": "f", "function": {"name": "n"}}]}]}, "Required [arguments]"),
        ({"messages": [{"role": "a", "reasoning_details": [{"type": "reasoning.encrypted"}]}]}, "Field [data] in object [reasoning_details] is required but was not found"),
        ({"messages": [USER], "cache_control": {"ttl": "5"}}, "failed to parse setting [ttl] with value [5] as a time value: unit is missing or unrecognized"),
    ],
)  # fmt: skip
def test_chats_refused(body, innermost):
    """The innermost cause to the letter of api.md 7.3, the outermost with the field and its position."""
    kind, reason, inner = both(json.dumps(body), CHAT)
    assert kind is BadBody
    assert inner == innermost
    field = list(body)[-1]
    assert reason.endswith(f"] [UnifiedCompletionRequestBody] failed to parse field [{field}]")


def test_where_a_nested_fault_is():
    """At the token at which the reader stood: the position in the contract's own example."""
    assert fault('{"messages":[{"content":[{"text":1}]}]}', CHAT) == (
        "[1:35] [UnifiedCompletionRequestBody] failed to parse field [messages]"
    )


def test_chats_refused_on_top():
    """Missing, empty, and members that are not of this API."""
    assert both("{}", CHAT)[:2] == (IllegalArgument, "Required [messages]")
    assert both('{"messages":[]}', CHAT)[:2] == (
        InvalidRequest,
        "Validation Failed: 1: Field [messages] cannot be an empty array;",
    )
    for name in ("n", "stream", "max_tokens", "response_format"):
        assert f"[UnifiedCompletionRequestBody] unknown field [{name}]" in fault(chat(**{name: 1}), CHAT)
    assert fault(chat(), TEXT) == f"[1:2] {INFERENCE} unknown field [messages]"


# Any body


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{\x00}\x00",
        b'{"a' + b"[" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"input":"a","task_settings":' + b'{"a":' * 250 + b"1" + b"}" * 251,
        b'{"input":' + b"9" * 5000 + b"}",
        b'{"input":NaN}',
        b'{"input":1e999}',
        b'{"input":-}',
        b'{"input":"\\u12"}',
        b'{"input":"\\x"}',
        b'{"input":"\x01"}',
        b'{"\\ud800":1}',
    ],
)
def test_hostile_bodies(body, task):
    """400 and a position, quick or careful."""
    kind, reason, _ = both(body, task)
    assert kind.status == 400
    assert reason.startswith("[1:")


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
    | st.sampled_from(["search", "user", "text", "image_url", "auto", "function"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "content", "role", "value", "function", "name", "image_url", "url", "x"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
json_body = st.dictionaries(
    st.sampled_from(
        [
            "input",
            "query",
            "top_n",
            "input_type",
            "task_settings",
            "messages",
            "tools",
            "stop",
            "reasoning",
            "timeout",
            "model",
        ]
    ),
    json_value,
    max_size=4,
)


@given(json_body, st.sampled_from(TASKS), st.booleans())
def test_both_ways_agree_on_any_object(body, task, typed):
    """The quick way never says anything else than the careful one; nothing but named errors comes out."""
    both(json.dumps(body), task, typed=typed)


@given(st.binary(max_size=60), st.sampled_from(TASKS))
def test_both_ways_agree_on_any_bytes(body, task):
    """Nor on what is no JSON at all."""
    both(body, task)


@given(json_body, st.data())
def test_any_truncation(body, data):
    """A body cut anywhere is refused by name."""
    raw = json.dumps(body).encode()
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert both(raw[:cut], TEXT)[0].status == 400


@given(json_value)
def test_the_careful_reader_reads_json(value):
    """What the standard library writes, the token reader reads as the same value."""
    try:
        read = parse_object(json.dumps({"v": value}).encode())
    except BadBody as error:
        assert "out of range" in error.reason  # noqa: PT017 - infinity is the one exception
        return
    assert json.dumps(read["v"]) == json.dumps(value)


# Through a request


async def question(body: bytes, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await bodies.question(asked("POST", "/x", body=body, headers=names), TEXT, typed=True)


async def test_no_body():
    """`request body is required`, in the words each route has for it."""
    with pytest.raises(BodyMissing, match=r"^request body is required$"):
        await question(b"")
    with pytest.raises(BodyMissing, match=r"^request body is required$"):
        await bodies.settings(asked("PUT", "/x"))
    with pytest.raises(BodyMissing, match=r"^body is required$"):
        await bodies.region_policy(asked("PUT", "/x"))
    with pytest.raises(IllegalArgument, match=r"^The body must be specified when configuring CCM\.$"):
        await bodies.ccm(asked("PUT", "/x"))


async def test_ten_thousand_inputs():
    """Many inputs arrive whole and in order."""
    texts = [f"text {n}" for n in range(10_000)]
    inputs, _ = await question(json.dumps({"input": texts}).encode())
    assert list(inputs.texts) == texts


async def test_a_body_of_a_hundred_megabytes_leaves_the_loop_alone():
    """It is read in a thread, in steps: the loop keeps its turn."""
    body = b'{"input":[' + b",".join([b'"' + b"x" * 50_000 + b'"'] * 2000) + b"]}"
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def heart() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)

    beating = asyncio.create_task(heart())
    await asyncio.sleep(0.02)
    inputs, _ = await question(body)
    beating.cancel()
    assert len(inputs.texts) == 2000
    assert longest < 0.5


async def test_other_forms_of_body():
    """YAML, CBOR and gzip say the same as JSON."""
    assert (await question(b"input: a", content_type="application/yaml"))[0] == Texts(("a",))
    assert (await question(b"\xa1einputaa", content_type="application/cbor"))[0] == Texts(("a",))
    assert (await question(gzip.compress(b'{"input":"a"}'), content_encoding="gzip"))[0] == Texts(("a",))
    with pytest.raises(BadBody, match="unknown field"):
        await question(b"inpt: a", content_type="application/yaml")


async def test_settings():
    """Any object, members in order; nothing else, and no member twice."""
    body = b'{"service":"x","service_settings":{"b":1,"a":1.5,"big":123456789012345678901234567890}}'
    assert list((await bodies.settings(asked("PUT", "/x", body=body)))["service_settings"].items()) == [
        ("b", 1),
        ("a", 1.5),
        ("big", 123456789012345678901234567890),
    ]
    for body, reason in (
        (b"[]", r"^\[1:1\] Expected START_OBJECT but was: START_ARRAY$"),
        (b'{"a":1,"a":2}', r"^\[1:8\] Duplicate field 'a'$"),
        (b'{"a":{"b":1,"b":2}}', r"^\[1:13\] Duplicate field 'b'$"),
        (b"{", "Unexpected end-of-input"),
    ):
        with pytest.raises(BadBody, match=reason):
            await bodies.settings(asked("PUT", "/x", body=body))


async def test_region_policies():
    """One list or the other (api.md 4.7)."""

    async def policy(value):
        return await bodies.region_policy(
            asked("PUT", "/x", body=json.dumps({"region_policy": value}).encode())
        )

    assert await policy({"allowed_geos": ["us", "eu"]}) == {"allowed_geos": ["us", "eu"]}
    regions = [{"csp": "aws", "region": "us-east-1"}]
    assert await policy({"allowed_regions": regions}) == {"allowed_regions": regions}
    with pytest.raises(BadBody, match=r"failed to parse field \[region_policy\]$") as caught:
        await policy({"allowed_geos": [], "allowed_regions": []})
    assert str(caught.value.__cause__) == (
        "The following fields are not allowed together: [allowed_geos, allowed_regions] "
    )
    with pytest.raises(BadBody):
        await policy({})
    with pytest.raises(IllegalArgument, match=r"^Required \[region_policy\]$"):
        await bodies.region_policy(asked("PUT", "/x", body=b"{}"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "At least one of [api_key] or [enabled] must be provided"),
        (b'{"api_key":"k","enabled":false}', "Only one of [api_key] or [enabled] can be provided but not both"),
        (
            b'{"enabled":true}',
            "The [enabled] field must be set to [false] when disabling CCM, otherwise omit it and provide the [api_key] field instead",
        ),
        (b'{"api_key":""}', "The [api_key] field cannot be an empty string"),
    ],
)  # fmt: skip
async def test_ccm_bodies_refused(body, reason):
    """api.md 4.8, to the letter."""
    with pytest.raises(InvalidRequest) as caught:
        await bodies.ccm(asked("PUT", "/x", body=body))
    assert caught.value.reason == f"Validation Failed: 1: {reason};"


async def test_ccm_bodies():
    """A key, or the end of it."""
    assert await bodies.ccm(asked("PUT", "/x", body=b'{"api_key":"k"}')) == {"api_key": "k"}
    assert await bodies.ccm(asked("PUT", "/x", body=b'{"enabled":false}')) == {"enabled": False}
