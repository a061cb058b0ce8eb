"""``GET /openapi.json``: every route of every dialect, described (https://spec.openapis.org/oas/v3.1.0).

Paths, methods, parameters and bodies come from the route tables; what is in the bodies is written here, as far as it helps a reader or a
generator. The parsers refuse more than these schemas say.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from inferd import __version__
from inferd.api.elastic import render
from inferd.api.elastic.params import COMMON, Params
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Request, Response, Route
from inferd.core.tasks import TaskType

Schema = dict[str, Any]
Table = tuple[Dialect, Sequence[Route]]

_JSON, _EVENTS = "application/json", "text/event-stream"
_ELASTIC_JSON = (_JSON, "application/yaml", "application/cbor")


class OpenApi:
    """The description of what ``describe`` was given, for whoever may see an endpoint."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._body = b""

    def describe(self, tables: Iterable[Table], *, secured: bool) -> None:
        self._body = render.encode(document(tables, secured=secured))

    async def show(self, request: Request) -> Response:
        Params(request).finish()
        self._guard.authorise_list(request)
        return await render.reply(request, self._body)


def routes(shown: OpenApi, read: tuple[str, tuple[str, ...]]) -> list[Route]:
    """``read``: action name and the privileges that grant it."""
    action, privileges = read
    return [
        Route(
            method="GET", template="/openapi.json", handler=shown.show, action=action, privileges=privileges
        )
    ]


def document(tables: Iterable[Table], *, secured: bool) -> Schema:
    paths: dict[str, Schema] = {}
    for dialect, rows in tables:
        for route in rows:
            paths.setdefault(route.template, {})[route.method.lower()] = _operation(dialect.name, route)
    components: Schema = {"schemas": SCHEMAS}
    shown: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "inferd", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": components,
    }
    if secured:
        components["securitySchemes"] = _SECURITY
        shown["security"] = [{name: []} for name in _SECURITY]
    return shown


_SECURITY = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The encoded form of an API key."},
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`ApiKey <encoded>`",
    },
}


def _operation(dialect: str, route: Route) -> Schema:
    ask, answer = BODIES.get(f"{route.method} {route.template}", (_ANY, _ANY))
    streams = route.template.endswith("/_stream")
    shown: Schema = {
        "operationId": _operation_id(dialect, route),
        "tags": [dialect],
        "parameters": [*_path_parameters(route), *_query_parameters(dialect, route)],
        "responses": {
            "200": _response("The answer.", answer, dialect, route, streams=streams),
            "default": _response("What went wrong.", _ERRORS[dialect], dialect, route, streams=False),
        },
    }
    if streams:
        shown["responses"]["default"]["content"][_EVENTS] = {}
    if route.body != "none":
        shown["requestBody"] = {
            "required": route.body == "required",
            "content": {_JSON: {"schema": ask}},
        }
    return shown


def _operation_id(dialect: str, route: Route) -> str:
    words = re.findall(r"[a-z0-9]+", route.template.lower())
    return "_".join([dialect, route.method.lower(), *words])


def _path_parameters(route: Route) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH.get(name, _NAME)}
        for name in re.findall(r"\{(\w+)\}", route.template)
    ]


def _query_parameters(dialect: str, route: Route) -> list[Schema]:
    names = sorted(route.params | (COMMON if dialect == "elastic" else frozenset()))
    return [{"name": name, "in": "query", "schema": _QUERY.get(name, {"type": "string"})} for name in names]


def _response(words: str, schema: Schema, dialect: str, route: Route, *, streams: bool) -> Schema:
    if route.method == "HEAD" or schema is _EMPTY:
        return {"description": words}
    if streams:
        return {"description": words, "content": {_EVENTS: {}}}
    forms = _ELASTIC_JSON if dialect == "elastic" else (_JSON,)
    content = {form: {"schema": schema} for form in forms}
    if "stream" in _members(route):
        content[_EVENTS] = {}
    return {"description": words, "content": content}


def _members(route: Route) -> Schema:
    ask = BODIES.get(f"{route.method} {route.template}", (_ANY, _ANY))[0]
    found: Schema = SCHEMAS.get(ask.get("$ref", "").rsplit("/", 1)[-1], {}).get("properties", {})
    return found


# Schemas


_EMPTY: Schema = {}
_ANY: Schema = {"type": "object"}
_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_NAME: Schema = {"type": "string", "minLength": 1}
_DURATION: Schema = {"type": "string", "examples": ["30s"]}
_TASK: Schema = {"type": "string", "enum": [str(task) for task in TaskType]}

_PATH: dict[str, Schema] = {"task": _TASK}
_QUERY: dict[str, Schema] = {
    "timeout": _DURATION,
    "master_timeout": _DURATION,
    "format": {"type": "string", "enum": ["json", "yaml", "cbor"]},
    **dict.fromkeys(("pretty", "human", "error_trace", "force", "dry_run", "owner", "active_only"), _FLAG),
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _object(required: str = "", **properties: Schema) -> Schema:
    shown: Schema = {"type": "object", "properties": properties}
    return {**shown, "required": required.split()} if required else shown


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXTS: Schema = {"anyOf": [_STRING, _list(_STRING, minItems=1)]}
_FLOATS = _list(_NUMBER)
_MESSAGES = _list(_object("role", role=_NAME), minItems=1)
_TOOLS = _list(_object("function", type={"const": "function"}, function=_object("name", name=_NAME)))
_OPENAI_SAMPLING: dict[str, Schema] = {
    "model": _NAME,
    "stream": _FLAG,
    "stream_options": _object(include_usage=_FLAG),
    "max_tokens": _COUNT,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "stop": _TEXTS,
    "user": _STRING,
}
_USAGE = _object(prompt_tokens=_INTEGER, completion_tokens=_INTEGER, total_tokens=_INTEGER)
_META = _object("api_version billed_units", api_version=_ANY, billed_units=_ANY, warnings=_list(_STRING))
_TRUNCATE: dict[str, Schema] = {
    "truncate": _FLAG,
    "truncation_direction": {"type": "string", "enum": ["Left", "Right"]},
    "prompt_name": {"type": "string", "enum": ["query", "passage", "document"]},
}

SCHEMAS: dict[str, Schema] = {
    # Elasticsearch. Its answers name no required members: filter_path may take any of them away.
    "ElasticError": _object(error={"anyOf": [_STRING, _ANY]}, status=_INTEGER),
    "EndpointDefinition": _object(
        "service",
        service=_NAME,
        service_settings=_ANY,
        task_settings=_ANY,
        chunking_settings=_ANY,
    ),
    "EndpointUpdate": _object(service_settings=_ANY, task_settings=_ANY),
    "Endpoint": _object(
        inference_id=_STRING,
        task_type=_TASK,
        service=_STRING,
        service_settings=_ANY,
        task_settings=_ANY,
        chunking_settings=_ANY,
    ),
    "Endpoints": _object(endpoints=_list(_ref("Endpoint"))),
    "TextQuestion": _object("input", input=_TEXTS, input_type=_STRING, task_settings=_ANY),
    "RankQuestion": _object(
        "input query", input=_TEXTS, query=_NAME, top_n=_COUNT, return_documents=_FLAG, task_settings=_ANY
    ),
    "ChatQuestion": _object(
        "messages",
        messages=_MESSAGES,
        tools=_TOOLS,
        tool_choice={"anyOf": [_STRING, _ANY]},
        temperature=_NUMBER,
        top_p=_NUMBER,
        max_completion_tokens=_INTEGER,
        stop=_list(_STRING),
    ),
    "Question": {"anyOf": [_ref("TextQuestion"), _ref("RankQuestion"), _ref("ChatQuestion")]},
    "Answer": _object(
        text_embedding=_list(_object(embedding=_FLOATS)),
        text_embedding_bytes=_list(_object(embedding=_list(_INTEGER))),
        text_embedding_bits=_list(_object(embedding=_list(_INTEGER))),
        sparse_embedding=_list(_object(is_truncated=_FLAG, embedding=_ANY)),
        rerank=_list(_object(index=_INTEGER, relevance_score=_NUMBER, text=_STRING)),
        completion=_list(_object(result=_STRING)),
        choices=_list(_ANY),
    ),
    "Services": {
        "anyOf": [
            _list(_object(service=_STRING, name=_STRING, task_types=_list(_TASK), configurations=_ANY)),
            {"type": "object", "maxProperties": 0, "description": "Everything was filtered away."},
        ]
    },
    "Deletion": _object(
        acknowledged=_FLAG, pipelines=_list(_STRING), indexes=_list(_STRING), error_message=_STRING
    ),
    "Root": _object(name=_STRING, cluster_name=_STRING, cluster_uuid=_STRING, version=_ANY, tagline=_STRING),
    # OpenAI
    "OpenAIError": _object(
        "error",
        error=_object(
            "message type param code",
            message=_STRING,
            type=_maybe(_STRING),
            param=_maybe(_STRING),
            code=_maybe(_STRING),
        ),
    ),
    "OpenAIModel": _object(
        "id object created owned_by",
        id=_STRING,
        object={"const": "model"},
        created=_INTEGER,
        owned_by=_STRING,
    ),
    "OpenAIModels": _object("object data", object={"const": "list"}, data=_list(_ref("OpenAIModel"))),
    "OpenAIEmbeddingsRequest": _object(
        "model input",
        model=_NAME,
        input={
            "anyOf": [_TEXTS, _list(_INTEGER, minItems=1), _list(_list(_INTEGER, minItems=1), minItems=1)]
        },
        encoding_format={"type": "string", "enum": ["float", "base64"]},
        dimensions=_COUNT,
        input_type={
            "type": "string",
            "enum": ["search", "ingest", "classification", "clustering", "unspecified"],
        },
        user=_STRING,
    ),
    "OpenAIEmbeddings": _object(
        "object data model",
        object={"const": "list"},
        model=_STRING,
        data=_list(
            _object(
                "object index embedding",
                object={"const": "embedding"},
                index=_INTEGER,
                embedding={"anyOf": [_FLOATS, _STRING]},
            )
        ),
        usage=_object(
            "prompt_tokens total_tokens",
            prompt_tokens=_INTEGER,
            total_tokens=_INTEGER,
            dropped_tokens=_INTEGER,
        ),
    ),
    "OpenAIChatRequest": _object(
        "model messages",
        **_OPENAI_SAMPLING,
        messages=_MESSAGES,
        max_completion_tokens=_COUNT,
        tools=_TOOLS,
        tool_choice={"anyOf": [_STRING, _ANY]},
        reasoning_effort=_STRING,
    ),
    "OpenAICompletionRequest": _object("model prompt", **_OPENAI_SAMPLING, prompt=_TEXTS),
    "OpenAIAnswer": _object(
        "id object created model choices",
        id=_STRING,
        object={"enum": ["chat.completion", "text_completion"]},
        created=_INTEGER,
        model=_STRING,
        choices=_list(_object("index finish_reason", index=_INTEGER, finish_reason=_maybe(_STRING))),
        usage=_USAGE,
    ),
    # Cohere, Jina, Voyage
    "CohereError": _object("message", id=_STRING, message=_STRING),
    "CohereEmbedRequest": _object(
        "model texts",
        model=_NAME,
        texts=_list(_STRING, minItems=1),
        input_type={
            "type": "string",
            "enum": ["search_document", "search_query", "classification", "clustering"],
        },
        embedding_types=_list({"enum": ["float", "int8", "uint8", "binary", "ubinary", "base64"]}),
        truncate={"type": "string", "enum": ["NONE", "START", "END"]},
        output_dimension=_COUNT,
    ),
    "CohereEmbeddings": _object(
        "id embeddings texts meta",
        id=_STRING,
        response_type=_STRING,
        embeddings={
            "anyOf": [
                _list(_FLOATS),
                {"type": "object", "additionalProperties": _list({"anyOf": [_FLOATS, _STRING]})},
            ]
        },
        texts=_list(_STRING),
        meta=_META,
    ),
    "CohereRerankRequest": _object(
        "model query documents",
        model=_NAME,
        query=_NAME,
        documents=_list({"anyOf": [_STRING, _object("text", text=_STRING)]}, minItems=1),
        top_n=_COUNT,
        top_k=_COUNT,
        return_documents=_FLAG,
        truncation=_FLAG,
        max_tokens_per_doc=_COUNT,
    ),
    "CohereRanking": _object(
        "id results meta",
        id=_STRING,
        results=_list(
            _object("index relevance_score", index=_INTEGER, relevance_score=_NUMBER, document=_ANY)
        ),
        meta=_META,
        model=_STRING,
        usage=_object(total_tokens=_INTEGER, prompt_tokens=_INTEGER),
        object={"const": "list"},
        data=_list(
            _object("index relevance_score", index=_INTEGER, relevance_score=_NUMBER, document=_STRING)
        ),
    ),
    "CohereChatRequest": _object(
        "model messages",
        model=_NAME,
        messages=_MESSAGES,
        stream=_FLAG,
        tools=_TOOLS,
        tool_choice={"type": "string", "enum": ["REQUIRED", "NONE"]},
        max_tokens=_COUNT,
        temperature=_NUMBER,
        p=_NUMBER,
        stop_sequences=_list(_STRING),
        thinking=_object("type", type={"enum": ["enabled", "disabled"]}),
    ),
    "CohereAnswer": _object(
        "id finish_reason message", id=_STRING, finish_reason=_STRING, message=_ANY, usage=_ANY
    ),
    # text-embeddings-inference
    "TeiError": _object("error error_type", error=_STRING, error_type=_STRING),
    "TeiInputs": _object("inputs", inputs=_TEXTS, normalize={"const": True}, dimensions=_COUNT, **_TRUNCATE),
    "TeiSparseInputs": _object("inputs", inputs=_TEXTS, **_TRUNCATE),
    "TeiRerankInputs": _object(
        "query texts",
        query=_NAME,
        texts=_list(_STRING, minItems=1),
        return_text=_FLAG,
        raw_scores={"const": False},
        top_n=_COUNT,
        truncate=_FLAG,
        truncation_direction=_TRUNCATE["truncation_direction"],
    ),
    "TeiAny": {"anyOf": [_ref("TeiInputs"), _ref("TeiRerankInputs")]},
    "TeiRanking": _list(_object("index score", index=_INTEGER, score=_NUMBER, text=_STRING)),
    "TeiTokenizeInputs": _object("inputs", inputs=_TEXTS, add_special_tokens=_FLAG),
    "TeiTokens": _list(
        _list(
            _object(
                "id text special start stop",
                id=_INTEGER,
                text=_STRING,
                special=_FLAG,
                start=_maybe(_INTEGER),
                stop=_maybe(_INTEGER),
            )
        )
    ),
    "TeiInfo": _object(
        "model_id model_type max_input_length max_concurrent_requests version",
        model_id=_STRING,
        model_type=_ANY,
        max_input_length=_maybe(_INTEGER),
        max_concurrent_requests=_INTEGER,
        version=_STRING,
    ),
}

_ERRORS = {
    "elastic": _ref("ElasticError"),
    "openai": _ref("OpenAIError"),
    "cohere": _ref("CohereError"),
    "tei": _ref("TeiError"),
}
_ENDPOINT, _ENDPOINTS, _ANSWER = _ref("Endpoint"), _ref("Endpoints"), _ref("Answer")
_DEFINITION, _QUESTION = (_ref("EndpointDefinition"), _ENDPOINT), (_ref("Question"), _ANSWER)

BODIES: dict[str, tuple[Schema, Schema]] = {
    "GET /": (_ANY, _ref("Root")),
    "GET /_inference": (_ANY, _ENDPOINTS),
    "GET /_inference/_all": (_ANY, _ENDPOINTS),
    "GET /_inference/{id}": (_ANY, _ENDPOINTS),
    "GET /_inference/{task}/{id}": (_ANY, _ENDPOINTS),
    "PUT /_inference/{id}": _DEFINITION,
    "PUT /_inference/{task}/{id}": _DEFINITION,
    "PUT /_inference/{id}/_update": (_ref("EndpointUpdate"), _ENDPOINT),
    "PUT /_inference/{task}/{id}/_update": (_ref("EndpointUpdate"), _ENDPOINT),
    "DELETE /_inference/{id}": (_ANY, _ref("Deletion")),
    "DELETE /_inference/{task}/{id}": (_ANY, _ref("Deletion")),
    "POST /_inference/{id}": _QUESTION,
    "POST /_inference/{task}/{id}": _QUESTION,
    "POST /_inference/{id}/_stream": _QUESTION,
    "POST /_inference/{task}/{id}/_stream": _QUESTION,
    "GET /_inference/_services": (_ANY, _ref("Services")),
    "GET /_inference/_services/{task}": (_ANY, _ref("Services")),
    "GET /v1/models": (_ANY, _ref("OpenAIModels")),
    "GET /v1/models/{id}": (_ANY, _ref("OpenAIModel")),
    "POST /v1/embeddings": (_ref("OpenAIEmbeddingsRequest"), _ref("OpenAIEmbeddings")),
    "POST /v1/chat/completions": (_ref("OpenAIChatRequest"), _ref("OpenAIAnswer")),
    "POST /v1/completions": (_ref("OpenAICompletionRequest"), _ref("OpenAIAnswer")),
    "POST /v1/embed": (_ref("CohereEmbedRequest"), _ref("CohereEmbeddings")),
    "POST /v2/embed": (_ref("CohereEmbedRequest"), _ref("CohereEmbeddings")),
    "POST /v1/rerank": (_ref("CohereRerankRequest"), _ref("CohereRanking")),
    "POST /v2/rerank": (_ref("CohereRerankRequest"), _ref("CohereRanking")),
    "POST /v2/chat": (_ref("CohereChatRequest"), _ref("CohereAnswer")),
    "POST /tei/{id}": (_ref("TeiAny"), _list({"anyOf": [_FLOATS, _ANY]})),
    "POST /tei/{id}/embed": (_ref("TeiInputs"), _list(_FLOATS)),
    "POST /tei/{id}/embed_sparse": (
        _ref("TeiSparseInputs"),
        _list(_list(_object("index value", index=_INTEGER, value=_NUMBER))),
    ),
    "POST /tei/{id}/rerank": (_ref("TeiRerankInputs"), _ref("TeiRanking")),
    "POST /tei/{id}/tokenize": (_ref("TeiTokenizeInputs"), _ref("TeiTokens")),
    "GET /tei/{id}/info": (_ANY, _ref("TeiInfo")),
    "GET /tei/{id}/health": (_ANY, _EMPTY),
}
"""What a route takes and gives, by method and template. Others take and give some object."""
