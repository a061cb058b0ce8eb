"""The error rows of api.md sections 1 to 5 (and the rows beside them) that the cases of section 15 leave out, one each."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from inferd.config import Config, Security

from .house import Client, put_body, serving

V = "Validation Failed: 1: "
VERSIONED = "application/vnd.elasticsearch+json; compatible-with="
MEDIA = "Invalid media-type value on headers [Accept, Content-Type]"
TEXTS = "cluster:internal/xpack/inference"
DENSE = "/_inference/text_embedding/dense"
NEW = "/_inference/text_embedding/new"
SPARSE_UPDATE = "/_inference/sparse_embedding/sparse/_update"
STATUS, ILLEGAL, PARSE = "status_exception", "illegal_argument_exception", "x_content_parse_exception"
REQUEST, SETTINGS = "action_request_validation_exception", "validation_exception"


def chunked(**settings: Any) -> tuple[str, str, Any]:
    return "PUT", NEW, put_body("S1", chunking_settings=settings)


def with_settings(**settings: Any) -> tuple[str, str, Any]:
    body = put_body("S1")
    body["service_settings"].update(settings)
    return "PUT", NEW, body


Row = tuple[tuple[Any, ...], int, str, str]
STANDARD: dict[str, Row] = {
    # 1.3
    "1.3 unknown Accept": (
        ("GET", "/_inference", None, {"Accept": "application/nonsense"}),
        *(400, "media_type_header_exception", "Invalid media-type value on header [Accept]"),
    ),
    "1.3 Content-Type is no media type": (
        ("POST", DENSE, b"x", {"Content-Type": "nonsense"}),
        *(400, "media_type_header_exception", "Invalid media-type value on header [Content-Type]"),
    ),
    # 1.4
    "1.4 GET with a body": (
        ("GET", "/_inference/dense", {"a": 1}),
        *(400, ILLEGAL, "request [GET /_inference/dense] does not support having a body"),
    ),
    "1.4 DELETE with a body": (
        ("DELETE", "/_inference/dense", {"a": 1}),
        *(400, ILLEGAL, "request [DELETE /_inference/dense] does not support having a body"),
    ),
    # 2.3
    "2.3 no body": (("POST", DENSE), 400, "parse_exception", "request body is required"),
    "2.3 no body for update": (("PUT", SPARSE_UPDATE), 400, "parse_exception", "request body is required"),
    "2.3 unknown field without a near name": (
        ("POST", DENSE, {"zzz": "a"}),
        *(400, PARSE, f"[1:2] [{TEXTS}] unknown field [zzz]"),
    ),
    "2.3 unknown field of rerank": (
        ("POST", "/_inference/rerank/rr", {"quary": "a"}),
        *(400, PARSE, "[1:2] [RerankRequest] unknown field [quary] did you mean [query]?"),
    ),
    "2.3 several missing": (
        ("POST", "/_inference/rerank/rr", {}),
        *(400, ILLEGAL, "Required [input, query]"),
    ),
    # 3
    "3 boolean": (
        ("DELETE", "/_inference/dense?force=maybe"),
        *(400, ILLEGAL, "Failed to parse value [maybe] as only [true] or [false] are allowed."),
    ),
    "3 two unknown parameters": (
        ("GET", "/_inference/dense?a=1&b=2"),
        *(400, ILLEGAL, "request [/_inference/dense] contains unrecognized parameters: [a], [b]"),
    ),
    "3 a near one": (
        ("POST", "/_inference/dense?timeuot=1s", {"input": "a"}),
        *(400, ILLEGAL, "request [/_inference/dense] contains unrecognized parameter: [timeuot] -> did you mean [timeout]?"),
    ),
    # 4.2
    "4.2-8 task not done": (
        ("PUT", "/_inference/rerank/new", put_body("S1")),
        *(400, STATUS, "The [S1] service does not support task type [rerank]"),
    ),
    "4.2-9 several leftovers": (
        with_settings(foo="bar", n=1),
        *(400, STATUS, "Configuration contains settings [{foo=bar, n=1}] unknown to the [S1] service"),
    ),
    "4.2-9 chunking of a task without": (
        ("PUT", "/_inference/rerank/new", put_body("S2", chunking_settings={"strategy": "none"})),
        *(400, STATUS, "Configuration contains settings [{chunking_settings={strategy=none}}] unknown to the [S2] service"),
    ),
    "4.2-10 no service_settings": (
        ("PUT", "/_inference/sparse_embedding/new", {"service": "S2"}),
        *(400, STATUS, "Missing required field [service_settings]"),
    ),
    "4.2-3 unknown task in the body": (
        ("PUT", "/_inference/new", put_body("S1", task_type="foo")),
        *(400, STATUS, "Unknown task_type [foo]"),
    ),
    "4.2 order: id before service": (
        ("PUT", "/_inference/text_embedding/_x", {}),
        *(400, REQUEST, f"{V}Invalid inference_id; '_x' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
        "underscores; must start and end with alphanumeric;"),
    ),
    "4.2 order: task before service": (
        ("PUT", "/_inference/new", {}),
        *(400, STATUS, "model is missing required setting [task_type]"),
    ),
    # 4.3
    "4.3 bad id": (
        ("PUT", "/_inference/sparse_embedding/A/_update", {"task_settings": {}}),
        *(400, REQUEST, f"{V}Invalid inference_id; 'A' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
        "underscores; must start and end with alphanumeric;"),
    ),
    "4.3 no task type": (
        ("PUT", "/_inference/sparse/_update", {"task_settings": {"temperature": 1}}),
        *(400, STATUS, "model is missing required setting [task_type]"),
    ),
    "4.3 task_type is no string": (
        ("PUT", SPARSE_UPDATE, {"task_type": 1}),
        *(500, STATUS, "Failed to parse [task_type] in update request [{task_type=1}]"),
    ),
    "4.3 service_settings is no object": (
        ("PUT", SPARSE_UPDATE, {"service_settings": "x"}),
        *(400, STATUS, "Unable to parse service settings in the request [{service_settings=x}]"),
    ),
    "4.3 task_settings is no object": (
        ("PUT", SPARSE_UPDATE, {"task_settings": [1]}),
        *(400, STATUS, "Unable to parse task settings in the request [{task_settings=[1]}]"),
    ),
    "4.3 chunking_settings": (
        ("PUT", SPARSE_UPDATE, {"chunking_settings": {"strategy": "none"}}),
        *(400, STATUS, "Request contained fields which cannot be updated, remove these fields and try again "
        "[{chunking_settings={strategy=none}}]"),
    ),
    "4.3 unknown id": (
        ("PUT", "/_inference/sparse_embedding/nope/_update", {"task_settings": {}}),
        *(404, STATUS, "The inference endpoint [nope] does not exist and cannot be updated"),
    ),
    # 4.7
    "4.7 no body": (("PUT", "/_inference/_region_policy"), 400, "parse_exception", "body is required"),
    "4.7 delete none": (
        ("DELETE", "/_inference/_region_policy"),
        *(404, "resource_not_found_exception", "No region policy is configured for this deployment"),
    ),
    # 4.8
    "4.8 no body": (
        ("PUT", "/_inference/_ccm"),
        *(400, ILLEGAL, "The body must be specified when configuring CCM."),
    ),
    "4.8 both": (
        ("PUT", "/_inference/_ccm", {"api_key": "k", "enabled": False}),
        *(400, REQUEST, f"{V}Only one of [api_key] or [enabled] can be provided but not both;"),
    ),
    "4.8 enabled": (
        ("PUT", "/_inference/_ccm", {"enabled": True}),
        *(400, REQUEST, f"{V}The [enabled] field must be set to [false] when disabling CCM, otherwise omit it and provide "
        "the [api_key] field instead;"),
    ),
    "4.8 empty key": (
        ("PUT", "/_inference/_ccm", {"api_key": ""}),
        *(400, REQUEST, f"{V}The [api_key] field cannot be an empty string;"),
    ),
    # 5.2
    **{
        f"5.2 id {id}": (
            ("PUT", f"/_inference/text_embedding/{id}", put_body("S1")),
            *(400, REQUEST, f"{V}Invalid inference_id; '{id}' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
            "underscores; must start and end with alphanumeric;"),
        )
        for id in ("A", "a-", "-a", "a.", ".a", "_a", "a_", "ä", "a+b", "*")
    },
    "5.2 reads of a bad id": (
        ("GET", "/_inference/A"),
        *(404, "resource_not_found_exception", "Inference endpoint not found [A]"),
    ),
    "5.2 deletes of a bad id": (
        ("DELETE", "/_inference/A"),
        *(404, "resource_not_found_exception", "Inference endpoint not found [A]"),
    ),
    # 5.3
    "5.3 required missing": (
        ("PUT", NEW, {"service": "S1", "service_settings": {"model_id": "m"}}),
        *(400, SETTINGS, f"{V}[secret_settings] does not contain the required setting [api_key];"),
    ),
    "5.3 everything that is missing": (
        ("PUT", NEW, {"service": "S1", "service_settings": {}}),
        *(400, SETTINGS, f"{V}[secret_settings] does not contain the required setting [api_key];"
        "2: [service_settings] does not contain the required setting [model_id];"),
    ),
    "5.3 empty string": (
        with_settings(model_id=""),
        *(400, SETTINGS, f"{V}[service_settings] Invalid value empty string. [model_id] must be a non-empty string;"),
    ),
    "5.3 not in enum": (
        with_settings(similarity="near"),
        *(400, SETTINGS, f"{V}[service_settings] Invalid value [near] received. [similarity] must be one of [cosine, "
        "dot_product, l2_norm];"),
    ),
    "5.3 wrong type": (
        with_settings(dimensions="many"),
        *(400, SETTINGS, f"{V}field [dimensions] is not of the expected type. The value [many] cannot be converted to a "
        "[Integer];"),
    ),
    "5.3 not positive": (
        with_settings(dimensions=0),
        *(400, SETTINGS, f"{V}[service_settings] Invalid value [0]. [dimensions] must be a positive integer;"),
    ),
    "5.3 rate limit": (
        with_settings(rate_limit={"requests_per_minute": 0}),
        *(400, SETTINGS, f"{V}[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long;"),
    ),
    # 9
    "9 unknown strategy": (chunked(strategy="foo"), 400, ILLEGAL, "Invalid chunkingStrategy foo"),
    "9 no size": (
        chunked(strategy="sentence"),
        *(400, SETTINGS, f"{V}[chunking_settings] does not contain the required setting [max_chunk_size];"),
    ),
    "9 size of zero": (
        chunked(strategy="word", max_chunk_size=0, overlap=1),
        *(400, SETTINGS, f"{V}[chunking_settings] Invalid value [0]. [max_chunk_size] must be a positive integer;"),
    ),
    "9 sentence_overlap": (
        chunked(strategy="sentence", max_chunk_size=50, sentence_overlap=2),
        *(400, SETTINGS, f"{V}sentence_overlap[2] must be either 0 or 1;"),
    ),
    "9 separators and group": (
        chunked(strategy="recursive", max_chunk_size=50, separators=["a"], separator_group="markdown"),
        *(400, SETTINGS, f"{V}Recursive chunking settings can not have both separators and separator_set;"),
    ),
    "9 no separators": (
        chunked(strategy="recursive", max_chunk_size=50, separators=[]),
        *(400, SETTINGS, f"{V}Recursive chunking settings can not have an empty list of separators;"),
    ),
    "9 too many separators": (
        chunked(strategy="recursive", max_chunk_size=50, separators=["a"] * 51),
        *(400, SETTINGS, f"{V}separators list size [51] must not exceed [50];"),
    ),
    "9 bad group": (
        chunked(strategy="recursive", max_chunk_size=50, separator_group="html"),
        *(400, SETTINGS, f"{V}[chunking_settings] Invalid value [html] received. [separator_group] must be one of "
        "[markdown, plaintext];"),
    ),
}  # fmt: skip


async def test_standard_errors(full: Client, subtests: Any) -> None:
    """Status, type and reason to the letter, twice in the envelope, and nothing beside them."""
    for name, (request, status, kind, reason) in STANDARD.items():
        with subtests.test(row=name):
            answer = await full(*request)
            told = {"type": kind, "reason": reason}
            assert (answer.status, answer.json) == (
                status,
                {"error": {"root_cause": [told], **told}, "status": status},
            )
            assert answer.headers["x-elastic-product"] == "Elasticsearch"


CAUSED: dict[str, tuple[tuple[Any, ...], str, str, str]] = {
    "1.3 a version of the past": (
        ("GET", "/_inference", None, {"Accept": f"{VERSIONED}10"}),
        *(MEDIA, STATUS, f"Accept version must be either version 9 or 8, but found 10. Accept={VERSIONED}10"),
    ),
    "1.3 one header versioned": (
        ("POST", DENSE, {"input": "a"}, {"Content-Type": f"{VERSIONED}9"}),
        *(MEDIA, STATUS, "A compatible version is required on both Content-Type and Accept headers if either one has "
        "requested a compatible version and the compatible versions must match. Accept=null, "
        f"Content-Type={VERSIONED}9"),
    ),
    "1.3 versions differ": (
        ("POST", DENSE, {"input": "a"}, {"Content-Type": f"{VERSIONED}9", "Accept": f"{VERSIONED}8"}),
        *(MEDIA, STATUS, "A compatible version is required on both Content-Type and Accept headers if either one has "
        f"requested a compatible version and the compatible versions must match. Accept={VERSIONED}8, "
        f"Content-Type={VERSIONED}9"),
    ),
    "2.3 nested": (
        ("POST", DENSE, {"input": [1]}),
        *(f"[1:12] [{TEXTS}] failed to parse field [input]", "illegal_state_exception", "*"),
    ),
    "6.2 internal input types": (
        ("POST", DENSE, {"input": "a", "input_type": "internal_search"}),
        *(f"[1:30] [{TEXTS}] failed to parse field [input_type]", ILLEGAL, "Unrecognized input_type [internal_search]"),
    ),
    "6.2 unknown input types": (
        ("POST", DENSE, {"input": "a", "input_type": "foo"}),
        *(f"[1:30] [{TEXTS}] failed to parse field [input_type]", ILLEGAL,
        "No enum constant org.elasticsearch.inference.InputType.FOO"),
    ),
    "4.7 both lists": (
        ("PUT", "/_inference/_region_policy",
         {"region_policy": {"allowed_geos": ["us"], "allowed_regions": [{"csp": "aws", "region": "r"}]}}),
        *("*failed to parse field [region_policy]", ILLEGAL,
        "The following fields are not allowed together: [allowed_geos, allowed_regions] "),
    ),
}  # fmt: skip


async def test_errors_with_a_cause(full: Client, subtests: Any) -> None:
    """400, and the cause under ``caused_by``. A star stands for anything."""
    for name, (request, reason, kind, cause) in CAUSED.items():
        with subtests.test(row=name):
            answer = await full(*request)
            error = answer.json["error"]
            assert answer.status == 400
            assert error["reason"] == reason or (reason[0] == "*" and error["reason"].endswith(reason[1:]))
            assert error["caused_by"]["type"] == kind
            assert cause in ("*", error["caused_by"]["reason"])


PLAIN: dict[str, tuple[tuple[Any, ...], int, Any]] = {
    "1.3 no Content-Type": (
        ("POST", DENSE, b'{"input":"a"}', {"Content-Type": ""}),
        *(406, {"error": "Content-Type header is missing", "status": 406}),
    ),
    **{
        f"1.3 {kind}": (
            ("POST", DENSE, b"x", {"Content-Type": kind}),
            *(406, {"error": f"Content-Type header [{kind}] is not supported", "status": 406}),
        )
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/xml",
            "text/plain; a=b",
        )
    },
    "1.4 wrong method with its query": (
        ("PATCH", "/_inference/dense?pretty"),
        405,
        {
            "error": "Incorrect HTTP method for uri [/_inference/dense?pretty] and method [PATCH], "
            "allowed: [GET, POST, PUT, DELETE]",
            "status": 405,
        },
    ),
    "1.4 no handler with its query": (
        ("GET", "/nothing/here?pretty"),
        *(400, {"error": "no handler found for uri [/nothing/here?pretty] and method [GET]"}),
    ),
}


async def test_errors_of_the_transport(full: Client, subtests: Any) -> None:
    """``error`` is a plain text for what no handler saw."""
    for name, (request, status, body) in PLAIN.items():
        with subtests.test(row=name):
            answer = await full(*request)
            assert (answer.status, answer.json) == (status, body)


@pytest.mark.parametrize("query", ["pretty=maybe", "human=1", "error_trace=no", "filter_path=" + "a," * 300])
async def test_a_faulty_parameter_of_every_route_changes_nothing(full: Client, query: str) -> None:
    """1.2: parameters are parsed before the action."""
    for request in (("PUT", f"{NEW}?{query}", put_body("S1")), ("DELETE", f"/_inference/sparse?{query}")):
        answer = await full(*request)
        assert (answer.status, answer.json["error"]["type"]) == (400, ILLEGAL)
    assert (await full("GET", "/_inference/new")).status == 404
    assert (await full("GET", "/_inference/sparse")).status == 200


async def test_options_and_head(full: Client) -> None:
    """1.4: OPTIONS on a known path tells the methods; HEAD is only for the root, elsewhere 405 without a body."""
    told = await full("OPTIONS", "/_inference/dense")
    assert (told.status, told.body, told.headers["allow"]) == (200, b"", "GET,POST,PUT,DELETE")
    assert told.headers["content-type"] == "text/plain; charset=UTF-8"
    head = await full("HEAD", "/_inference/dense")
    assert (head.status, head.body, head.headers["allow"]) == (405, b"", "GET,POST,PUT,DELETE")


async def test_compressed_bodies(full: Client) -> None:
    """1.1: a gzip body is read; what was not gzip is a 400; what is too large is a 413."""
    headers = {"Content-Encoding": "gzip"}
    assert (await full("POST", DENSE, gzip.compress(b'{"input":"a"}'), headers)).status == 200
    assert (await full("POST", DENSE, b'{"input":"a"}', headers)).status == 400
    bomb = gzip.compress(b" " * (101 << 20))
    assert (await full("POST", DENSE, bomb, headers)).status == 413


async def test_forms_of_errors(full: Client) -> None:
    """2.1: errors are never filtered, honour pretty and format, and carry traces when asked."""
    plain = (await full("GET", "/_inference/nope?filter_path=x")).json
    assert plain["error"]["type"] == "resource_not_found_exception"
    assert b'\n  "error" : {' in (await full("GET", "/_inference/nope?pretty")).body
    assert (await full("GET", "/_inference/nope?format=yaml")).body.startswith(b"---\nerror:\n")
    traced = (await full("PUT", "/_inference/completion/x?error_trace", put_body("S2", x=1))).json["error"]
    assert traced["stack_trace"].startswith("status_exception: Configuration contains settings [{x=1}]")


async def test_an_opaque_id_comes_back(full: Client) -> None:
    """1.1: on errors and answers alike."""
    for path in ("/_inference/dense", "/_inference/nope", "/none/at/all"):
        assert (await full("GET", path, None, {"X-Opaque-Id": "mine"})).headers["x-opaque-id"] == "mine"


async def test_a_service_that_is_gone(full: Client) -> None:
    """4.1, 4.3, 4.4, 6.1: what each action says of an endpoint whose service is no longer known."""
    services = dict(full.house.services)
    full.house.services = {name: service for name, service in services.items() if name != "S1"}
    expected = (
        (("GET", "/_inference/dense"), 500, "Unknown service [S1] for inference endpoint [dense]. "),
        (("PUT", f"{DENSE}/_update", {"task_settings": {}}), 500, "Service [S1] not found"),
        (("DELETE", "/_inference/dense"), 404, "No service found for this inference endpoint dense"),
        (("POST", DENSE, {"input": "a"}), 400, "Unknown service [S1] for model [dense]"),
    )
    for request, status, reason in expected:
        answer = await full(*request)
        assert (answer.status, answer.json["error"]["type"], answer.json["error"]["reason"]) == (
            status,
            STATUS,
            reason,
        )
    full.house.services = services
    assert (await full("POST", DENSE, {"input": "a"})).status == 200


async def test_a_concurrent_update(full: Client) -> None:
    """4.3: whoever finds the endpoint changed meanwhile is answered 409, and may try again."""
    import asyncio

    change = {"task_settings": {"temperature": 1}}
    other = {"task_settings": {"temperature": 2}}
    answers = await asyncio.gather(
        full("PUT", SPARSE_UPDATE, change),
        full("PUT", SPARSE_UPDATE, other),
        full("PUT", SPARSE_UPDATE, change),
    )
    lost = [answer for answer in answers if answer.status != 200]
    assert lost
    for answer in lost:
        assert (answer.status, answer.json["error"]["reason"]) == (
            409,
            "Endpoint [sparse] is currently being updated. Try again once the update completes",
        )
    assert (await full("PUT", SPARSE_UPDATE, other)).status == 200


async def test_deletes_of_the_wrong_task(full: Client) -> None:
    """4.4: a task that differs is told before force or dry runs are looked at."""
    for query in ("", "?force", "?dry_run"):
        answer = await full("DELETE", f"/_inference/rerank/dense{query}")
        assert (answer.status, answer.json["error"]["reason"]) == (
            400,
            "Requested task type [rerank] does not match the inference endpoint's task type [text_embedding]",
        )


async def test_task_types_of_any_case(full: Client) -> None:
    """4: parsed after trimming, whatever the case."""
    for task in ("TEXT_EMBEDDING", "%20Text_Embedding%20", "aNy"):
        assert (await full("GET", f"/_inference/{task}/dense")).status == 200


async def test_without_validation(tmp_path: Path) -> None:
    """4.2: with ``skip_validate_and_start`` no trial call is made."""
    base = Config(data_dir=str(tmp_path), security=Security(enabled=False))
    config = replace(base, api=replace(base.api, skip_validate=True))
    async with serving(tmp_path, "http://127.0.0.1:1", config=config) as client:
        answer = await client("PUT", "/_inference/completion/new", put_body("S2"))
        assert answer.status == 200, json.dumps(answer.json)
