"""The cases of api.md section 15, by number."""

from typing import Any

import pytest

from .house import Client, put_body

DEFAULTS = [".elser-2-elasticsearch", ".multilingual-e5-small-elasticsearch", ".rerank-v1-elasticsearch"]


def failure(status: int, kind: str, reason: str) -> tuple[int, dict[str, Any]]:
    """``E(...)``: the standard envelope with type and reason in both places."""
    told = {"type": kind, "reason": reason}
    return status, {"error": {"root_cause": [told], **told}, "status": status}


async def fails(client: Client, request: tuple[Any, ...], status: int, kind: str, reason: str) -> None:
    answer = await client(*request)
    assert (answer.status, answer.json) == failure(status, kind, reason)


MISMATCH = "Requested task type [text_embedding] does not match the inference endpoint's task type [sparse_embedding]"
V = "Validation Failed: 1: "

FAILURES: dict[str, tuple[tuple[Any, ...], int, str, str]] = {
    "3": (("GET", "/_inference/text_embedding/sparse"), 400, "status_exception", MISMATCH),
    "4": (
        ("GET", "/_inference/nope"),
        404,
        "resource_not_found_exception",
        "Inference endpoint not found [nope]",
    ),
    "5": (("GET", "/_inference/foo/sparse"), 400, "status_exception", "Unknown task_type [foo]"),
    "9": (
        ("GET", "/_inference/text_embedding"),
        404,
        "resource_not_found_exception",
        "Inference endpoint not found [text_embedding]",
    ),
    "12": (
        ("PUT", "/_inference/b", put_body("S2")),
        400,
        "status_exception",
        "model is missing required setting [task_type]",
    ),
    "13": (
        ("PUT", "/_inference/rerank/b", put_body("S2", task_type="completion")),
        400,
        "status_exception",
        "Cannot resolve conflicting task_type parameter in the request URL [rerank] and the request body [completion]",
    ),
    "14": (
        ("PUT", "/_inference/b", put_body("S2", task_type="any")),
        400,
        "status_exception",
        "task_type [any] is not valid type for inference",
    ),
    "15": (
        ("PUT", "/_inference/text_embedding/b", {"task_settings": {}}),
        400,
        "status_exception",
        "Inference endpoint configuration is missing the [service] setting",
    ),
    "16": (
        ("PUT", "/_inference/text_embedding/b", {"service": "nix", "service_settings": {}}),
        400,
        "status_exception",
        "Unknown service [nix]",
    ),
    "17": (
        ("PUT", "/_inference/text_embedding/Bad%20Id", put_body("S1")),
        400,
        "action_request_validation_exception",
        f"{V}Invalid inference_id; 'Bad Id' can contain lowercase alphanumeric (a-z and 0-9), hyphens or underscores; "
        "must start and end with alphanumeric;",
    ),
    "18": (
        ("PUT", "/_inference/sparse_embedding/.elser-2-elasticsearch", put_body("S2")),
        400,
        "action_request_validation_exception",
        f"{V}Invalid inference_id; '.elser-2-elasticsearch' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
        "underscores; must start and end with alphanumeric;",
    ),
    "19": (
        ("PUT", "/_inference/text_embedding/dense", put_body("S1")),
        400,
        "resource_already_exists_exception",
        "Inference endpoint [dense] already exists",
    ),
    "20": (("PUT", "/_inference/text_embedding/b"), 400, "parse_exception", "request body is required"),
    "22": (
        (
            "PUT",
            "/_inference/text_embedding/b",
            put_body("S1", chunking_settings={"strategy": "sentence", "max_chunk_size": 10}),
        ),
        400,
        "validation_exception",
        f"{V}[chunking_settings] Invalid value [10.0]. [max_chunk_size] must be greater than or equal to [20.0];",
    ),
    "23": (
        (
            "PUT",
            "/_inference/text_embedding/b",
            put_body("S1", chunking_settings={"strategy": "word", "max_chunk_size": 100, "overlap": 60}),
        ),
        400,
        "validation_exception",
        f"{V}[chunking_settings] Invalid value [60.0]. [overlap] must be less than or equal to [50.0];",
    ),
    "24": (
        ("PUT", "/_inference/text_embedding/b", put_body("S1", chunking_settings={"max_chunk_size": 100})),
        400,
        "illegal_argument_exception",
        "Can't generate Chunker without ChunkingStrategy provided",
    ),
    "25": (
        (
            "PUT",
            "/_inference/text_embedding/b",
            put_body("S1", chunking_settings={"strategy": "sentence", "max_chunk_size": 50, "overlap": 5}),
        ),
        400,
        "validation_exception",
        f"{V}Sentence based chunking settings can not have the following settings: [overlap];",
    ),
    "28": (
        ("PUT", "/_inference/text_embedding/sparse/_update", {"task_settings": {"temperature": 3}}),
        400,
        "status_exception",
        "Task type must match the task type of the existing endpoint",
    ),
    "29": (
        ("PUT", "/_inference/sparse/_update", {"task_type": "text_embedding", "task_settings": {}}),
        400,
        "status_exception",
        "Task type must match the task type of the existing endpoint",
    ),
    "30": (
        ("PUT", "/_inference/sparse_embedding/sparse/_update", {}),
        400,
        "status_exception",
        "Request body is empty",
    ),
    "31": (
        ("PUT", "/_inference/sparse_embedding/sparse/_update", {"service": "x"}),
        400,
        "status_exception",
        "Request contained fields which cannot be updated, remove these fields and try again [{service=x}]",
    ),
    "33": (("DELETE", "/_inference/text_embedding/sparse"), 400, "status_exception", MISMATCH),
    "34": (
        ("DELETE", "/_inference/nope"),
        404,
        "resource_not_found_exception",
        "Inference endpoint not found [nope]",
    ),
    "39": (
        ("DELETE", "/_inference/.elser-2-elasticsearch"),
        400,
        "status_exception",
        "[.elser-2-elasticsearch] is a reserved inference endpoint. Use the force=true query parameter to delete the "
        "inference endpoint.",
    ),
    "43": (
        ("POST", "/_inference/text_embedding/dense", {"input": []}),
        400,
        "action_request_validation_exception",
        f"{V}Field [input] cannot be an empty array;",
    ),
    "44": (
        ("POST", "/_inference/text_embedding/dense", {}),
        400,
        "action_request_validation_exception",
        f"{V}Field [input] cannot be null;",
    ),
    "45": (
        ("POST", "/_inference/text_embedding/nope", {"input": []}),
        400,
        "action_request_validation_exception",
        f"{V}Field [input] cannot be an empty array;",
    ),
    "46": (
        ("POST", "/_inference/nope", {"input": []}),
        404,
        "resource_not_found_exception",
        "Inference endpoint not found [nope]",
    ),
    "47": (
        ("POST", "/_inference/rerank/dense", {"query": "q", "input": ["a"]}),
        400,
        "status_exception",
        "Incompatible task_type, the requested type [rerank] does not match the model type [text_embedding]",
    ),
    "48": (
        ("POST", "/_inference/sparse_embedding/sparse", {"input": "a", "input_type": "search"}),
        400,
        "action_request_validation_exception",
        f"{V}Field [input_type] cannot be specified for task type [sparse_embedding];",
    ),
    "49": (
        ("POST", "/_inference/text_embedding/dense", {"inpt": "a"}),
        400,
        "x_content_parse_exception",
        "[1:2] [cluster:internal/xpack/inference] unknown field [inpt] did you mean [input]?",
    ),
    "50": (
        ("POST", "/_inference/rerank/rr", {"input": ["a"]}),
        400,
        "illegal_argument_exception",
        "Required [query]",
    ),
    "51": (
        ("POST", "/_inference/rerank/rr", {"query": "", "input": [], "top_n": 0}),
        400,
        "action_request_validation_exception",
        f"{V}Field [input] cannot be an empty array;2: Field [query] cannot be empty;"
        "3: Field [top_n] must be greater than or equal to 1;",
    ),
    "54": (
        ("POST", "/_inference/text_embedding/dense?timeout=30", {"input": "a"}),
        400,
        "illegal_argument_exception",
        "failed to parse setting [timeout] with value [30] as a time value: unit is missing or unrecognized",
    ),
    "55": (
        ("POST", "/_inference/dense?foo=1", {"input": "a"}),
        400,
        "illegal_argument_exception",
        "request [/_inference/dense] contains unrecognized parameter: [foo]",
    ),
    "67": (
        ("GET", "/_inference/_region_policy"),
        404,
        "resource_not_found_exception",
        "No region policy is configured for this deployment",
    ),
    "68": (
        ("PUT", "/_inference/_ccm", {}),
        400,
        "action_request_validation_exception",
        f"{V}At least one of [api_key] or [enabled] must be provided;",
    ),
    "70": (
        ("GET", "/_inference/_ccm"),
        403,
        "status_exception",
        "Cloud Connected Mode configuration is not permitted for this environment",
    ),
    "70 put": (
        ("PUT", "/_inference/_ccm", {"api_key": "key"}),
        403,
        "status_exception",
        "Cloud Connected Mode configuration is not permitted for this environment",
    ),
    "70 delete": (
        ("DELETE", "/_inference/_ccm"),
        403,
        "status_exception",
        "Cloud Connected Mode configuration is not permitted for this environment",
    ),
}


async def test_failures(full: Client, subtests: Any) -> None:
    """Each failing case has exactly the contract's envelope."""
    for number, (request, status, kind, reason) in FAILURES.items():
        with subtests.test(case=number):
            await fails(full, request, status, kind, reason)


class TestGet:
    async def test_1_and_2_by_id(self, full: Client) -> None:
        """Cases 1, 2: a single-id lookup answers an array, with or without the task."""
        for path in ("/_inference/sparse", "/_inference/any/sparse"):
            answer = await full("GET", path)
            (endpoint,) = answer.json["endpoints"]
            assert (answer.status, endpoint["inference_id"], endpoint["task_type"]) == (
                200,
                "sparse",
                "sparse_embedding",
            )

    async def test_6_nothing_of_a_task(self, empty: Client) -> None:
        """Case 6: no match is an empty list."""
        answer = await empty("GET", "/_inference/completion/_all")
        assert (answer.status, answer.json) == (200, {"endpoints": []})

    async def test_7_the_defaults(self, empty: Client) -> None:
        """Case 7: exactly the three defaults, sorted, in their documented form."""
        endpoints = (await empty("GET", "/_inference")).json["endpoints"]
        assert [e["inference_id"] for e in endpoints] == DEFAULTS
        assert endpoints[0] == {
            "inference_id": ".elser-2-elasticsearch",
            "task_type": "sparse_embedding",
            "service": "elasticsearch",
            "service_settings": {
                "num_threads": 1,
                "model_id": ".elser_model_2",
                "adaptive_allocations": {
                    "enabled": True,
                    "min_number_of_allocations": 0,
                    "max_number_of_allocations": 32,
                },
            },
            "chunking_settings": {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1},
        }
        assert endpoints[2]["task_settings"] == {"return_documents": True}
        assert "chunking_settings" not in endpoints[2]

    async def test_8_lists(self, empty: Client) -> None:
        """Case 8: of everything, and by task, defaults included."""
        for n in range(5):
            await empty("PUT", f"/_inference/sparse_embedding/s{n}", put_body("S2"))
        for n in range(4):
            await empty("PUT", f"/_inference/text_embedding/d{n}", put_body("S1"))
        counts = [
            len((await empty("GET", f"/_inference/{path}")).json["endpoints"])
            for path in ("_all", "sparse_embedding/_all", "text_embedding/_all", "any/*")
        ]
        assert counts == [12, 6, 5, 12]

    async def test_a_force_deleted_default_comes_back(self, full: Client) -> None:
        """Cases 39, 40: with force it is deleted, and there again at the next read."""
        answer = await full("DELETE", "/_inference/.elser-2-elasticsearch?force=true")
        assert (answer.status, answer.json["acknowledged"]) == (200, True)
        again = await full("GET", "/_inference/.elser-2-elasticsearch")
        assert again.json["endpoints"][0]["service_settings"]["model_id"] == ".elser_model_2"


class TestPut:
    async def test_10_secrets_are_not_shown(self, empty: Client) -> None:
        """Case 10: settings are echoed, the key is not, here or in GET."""
        answer = await empty("PUT", "/_inference/sparse_embedding/a", put_body("S2"))
        assert answer.status == 200
        assert answer.json["service_settings"] == {
            "model_id": "m",
            "rate_limit": {"requests_per_minute": 1000000},
        }
        assert b"key-1" not in answer.body + (await empty("GET", "/_inference/a")).body

    async def test_11_the_task_in_the_body(self, empty: Client) -> None:
        """Case 11."""
        answer = await empty("PUT", "/_inference/b", put_body("S2", task_type="sparse_embedding"))
        assert (answer.status, answer.json["task_type"]) == (200, "sparse_embedding")

    async def test_21_default_chunking(self, empty: Client) -> None:
        """Case 21, and the detected dimensions with the default similarity."""
        answer = await empty("PUT", "/_inference/text_embedding/a", put_body("S1"))
        assert answer.json["chunking_settings"] == {
            "strategy": "sentence",
            "max_chunk_size": 250,
            "sentence_overlap": 1,
        }
        settings = answer.json["service_settings"]
        assert (settings["dimensions"], settings["similarity"]) == (4, "cosine")

    async def test_26_separator_groups_are_spelt_out(self, empty: Client) -> None:
        """Case 26."""
        chunking = {"strategy": "recursive", "max_chunk_size": 50, "separator_group": "plaintext"}
        answer = await empty(
            "PUT", "/_inference/text_embedding/a", put_body("S1", chunking_settings=chunking)
        )
        stored = answer.json["chunking_settings"]
        assert "separator_group" not in stored
        assert len(stored["separators"]) == 2

    async def test_27_update(self, full: Client) -> None:
        """Case 27: the answer is the updated object, equal to a following GET."""
        answer = await full(
            "PUT", "/_inference/sparse_embedding/sparse/_update", {"task_settings": {"temperature": 3}}
        )
        assert answer.json["task_settings"]["temperature"] == 3
        assert (await full("GET", "/_inference/sparse")).json["endpoints"] == [answer.json]

    async def test_a_failing_trial_call_stores_nothing(self, empty: Client, provider: str) -> None:
        """4.2 check 12: the provider's error is the cause; nothing is stored."""
        body = {
            "service": "openai",
            "service_settings": {"api_key": "k", "model_id": "m", "url": f"{provider}/nothing"},
        }
        answer = await empty("PUT", "/_inference/completion/x", body)
        assert answer.status == 400
        assert answer.json["error"]["reason"] == (
            "Could not complete inference endpoint creation as validation call to service threw an exception."
        )
        assert (await empty("GET", "/_inference/x")).status == 404

    async def test_an_existing_id_is_noticed_last(self, full: Client) -> None:
        """4.2: invalid settings are told before the id is found to exist."""
        answer = await full(
            "PUT", "/_inference/text_embedding/dense", {"service": "S1", "service_settings": {}}
        )
        assert answer.json["error"]["type"] == "validation_exception"

    async def test_unknown_settings(self, empty: Client) -> None:
        """4.2 check 9: body, then service_settings, then task_settings."""
        for body, left in (
            (put_body("S2", foo="bar"), "{foo=bar}"),
            ({"service": "S2", "service_settings": {"api_key": "k", "model_id": "m", "x": [1]}}, "{x=[1]}"),
            (put_body("S2", task_settings={"y": {"z": True}}), "{y={z=true}}"),
            (put_body("S2", chunking_settings={}), "{chunking_settings={}}"),
        ):
            await fails(
                empty,
                ("PUT", "/_inference/rerank/a", body),
                400,
                "status_exception",
                f"Configuration contains settings [{left}] unknown to the [S2] service",
            )


class TestDelete:
    async def test_32_delete(self, full: Client) -> None:
        """Case 32."""
        answer = await full("DELETE", "/_inference/sparse")
        assert (answer.status, answer.json) == (200, {"acknowledged": True, "pipelines": [], "indexes": []})
        assert (await full("GET", "/_inference/sparse")).status == 404

    async def test_38_dry_run(self, full: Client) -> None:
        """Case 38: nothing is deleted, force or not."""
        for query in ("dry_run=true", "dry_run&force=true"):
            answer = await full("DELETE", f"/_inference/sparse?{query}")
            assert answer.json == {"acknowledged": False, "pipelines": [], "indexes": [], "error_message": ""}
        assert (await full("GET", "/_inference/sparse")).status == 200


class TestInfer:
    async def test_41_the_same_again(self, full: Client) -> None:
        """Case 41: untyped path, same input, same bytes."""
        first = await full("POST", "/_inference/dense", {"input": "hi"})
        assert list(first.json) == ["text_embedding"]
        assert len(first.json["text_embedding"][0]["embedding"]) == 4
        assert (await full("POST", "/_inference/dense", {"input": "hi"})).body == first.body

    async def test_42_one_result_an_input(self, full: Client) -> None:
        """Case 42."""
        answer = await full("POST", "/_inference/text_embedding/dense", {"input": ["a", "b", "c"]})
        assert len(answer.json["text_embedding"]) == 3

    async def test_52_and_53_rerank(self, full: Client) -> None:
        """Cases 52, 53: falling scores, top_n, documents only when wanted."""
        documents = ["star wars", "luke", "star", "like", "wars star main", "r2d2", "x"]
        body = {"query": "star wars main", "input": documents, "top_n": 2, "return_documents": False}
        answer = await full("POST", "/_inference/rerank/rr", body)
        assert answer.json == {
            "rerank": [{"index": 4, "relevance_score": 0.3}, {"index": 0, "relevance_score": 0.2}]
        }
        plain = await full("POST", "/_inference/rr", {"query": "q", "input": ["a", "b"]})
        assert [set(item) for item in plain.json["rerank"]] == [{"index", "relevance_score", "text"}] * 2

    async def test_sparse(self, full: Client) -> None:
        """6.3: tokens by falling weight."""
        answer = await full("POST", "/_inference/sparse_embedding/sparse", {"input": "x"})
        assert (
            answer.body
            == b'{"sparse_embedding":[{"is_truncated":false,"embedding":{"port":2.25,"sky":1.5}}]}'
        )

    async def test_completion(self, full: Client) -> None:
        """6.3."""
        answer = await full("POST", "/_inference/completion/comp", {"input": "hi"})
        assert answer.json == {"completion": [{"result": "HI"}]}

    async def test_87_and_88_embedding(self, full: Client) -> None:
        """Cases 87, 88."""
        bad = {"input": [{"content": {"type": "image", "value": "abc"}}]}
        answer = await full("POST", "/_inference/embedding/mm", bad)
        cause = answer.json["error"]
        while "caused_by" in cause:
            cause = cause["caused_by"]
        assert answer.status == 400
        assert cause["reason"] == (
            "base64 inputs must be specified as data URIs with the format [data:{MIME-type};base64,...]"
        )
        good = await full("POST", "/_inference/embedding/mm", {"input": "text"})
        assert len(good.json["embeddings"][0]["embedding"]) == 4


class TestStreams:
    async def test_56_completion(self, full: Client) -> None:
        """Case 56: one event a delta, then [DONE]."""
        answer = await full("POST", "/_inference/completion/comp/_stream", {"input": ["a", "b"]})
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-elastic-product"] == "Elasticsearch"
        assert answer.events == [
            ("message", {"completion": [{"delta": "A"}]}),
            ("message", {"completion": [{"delta": "B"}]}),
            ("message", "[DONE]"),
        ]

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            (
                "sparse_embedding/sparse",
                "Streaming is not allowed for service [S2] and task [sparse_embedding]. Supported tasks: "
                "[completion,chat_completion]",
            ),
            ("text_embedding/dense", "Streaming is not allowed for service [S1]."),
        ],
    )
    async def test_57_and_58_what_does_not_stream(self, full: Client, path: str, reason: str) -> None:
        """Cases 57, 58: 405 as one error event."""
        answer = await full("POST", f"/_inference/{path}/_stream", {"input": "a"})
        ((name, data),) = answer.events
        assert (answer.status, name, data["status"]) == (405, "error", 405)
        assert data["error"]["reason"] == reason

    async def test_59_chat(self, full: Client) -> None:
        """Case 59: the chunk of 7.4, no wrapper."""
        body = {"messages": [{"role": "user", "content": "hi"}]}
        answer = await full("POST", "/_inference/chat_completion/chat/_stream", body)
        assert answer.events == [
            (
                "message",
                {
                    "id": "id",
                    "choices": [{"delta": {"content": "HI"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
            ),
            ("message", "[DONE]"),
        ]

    @pytest.mark.parametrize(
        ("id", "body", "status", "error"),
        [
            (
                "chat",
                {"messages": []},
                400,
                {
                    "code": "bad_request",
                    "message": "Validation Failed: 1: Field [messages] cannot be an empty array;",
                    "type": "action_request_validation_exception",
                },
            ),
            (
                "nope",
                {"messages": [{"role": "user", "content": "hi"}]},
                404,
                {
                    "code": "not_found",
                    "message": "Inference endpoint not found [nope]",
                    "type": "resource_not_found_exception",
                },
            ),
            (
                "comp",
                {"messages": [{"role": "user", "content": "hi"}]},
                400,
                {
                    "code": "bad_request",
                    "message": "Incompatible task_type, the requested type [chat_completion] does not match the model "
                    "type [completion]",
                    "type": "status_exception",
                },
            ),
        ],
    )
    async def test_60_to_62_chat_failures(
        self, full: Client, id: str, body: Any, status: int, error: dict[str, str]
    ) -> None:
        """Cases 60, 61, 62: the chat envelope in one error event, with its own status."""
        answer = await full("POST", f"/_inference/chat_completion/{id}/_stream", body)
        assert (answer.status, answer.events) == (status, [("error", {"error": error})])

    async def test_63_a_whole_chat_answer(self, full: Client) -> None:
        """Case 63."""
        body = {"messages": [{"role": "user", "content": "hi"}]}
        answer = await full("POST", "/_inference/chat_completion/chat", body)
        assert answer.json["choices"][0]["message"]["content"] == "HI"
        assert answer.json["object"] == "chat.completion"

    async def test_64_a_provider_that_fails_midway(self, full: Client) -> None:
        """Case 64: two messages, one error, no [DONE], status 200."""
        answer = await full("POST", "/_inference/completion/comp/_stream", {"input": ["a", "break", "b"]})
        assert answer.status == 200
        assert [name for name, _ in answer.events] == ["message", "message", "error"]


class TestServicesAndPolicy:
    async def test_65_and_66_services(self, full: Client) -> None:
        """Cases 65, 66."""
        every = (await full("GET", "/_inference/_services")).json
        assert all({"service", "name", "task_types", "configurations"} <= set(s) for s in every)
        some = (await full("GET", "/_inference/_services/rerank")).json
        assert some == [s for s in every if "rerank" in s["task_types"]]
        assert 0 < len(some) < len(every)

    async def test_region_policy(self, full: Client) -> None:
        """4.7: put, shown, put again, deleted."""
        path, policy = "/_inference/_region_policy", {"region_policy": {"allowed_geos": ["us", "eu"]}}
        first = (await full("PUT", path, policy)).json
        assert set(first) == {"region_policy", "created_at"}
        second = (await full("PUT", path, policy)).json
        assert (second["created_at"], set(second)) == (first["created_at"], {*first, "updated_at"})
        assert (await full("GET", path)).json == second
        assert (await full("DELETE", path)).json == {"acknowledged": True}
        assert (await full("GET", path)).status == 404

    async def test_diagnostics(self, full: Client) -> None:
        """4.6."""
        ((_, node),) = (await full("GET", "/_inference/.diagnostics")).json.items()
        assert set(node) == {"external", "eis_mtls", "inference_endpoint_registry"}
        pool = {"leased_connections", "pending_connections", "available_connections", "max_connections"}
        assert set(node["external"]["connection_pool_stats"]) == pool


class TestHttp:
    async def test_76_unsupported_content_type(self, full: Client) -> None:
        """Case 76."""
        answer = await full("POST", "/_inference/dense", b"x", {"Content-Type": "text/plain"})
        assert (answer.status, answer.body) == (
            406,
            b'{"error":"Content-Type header [text/plain] is not supported","status":406}',
        )

    async def test_77_wrong_method(self, full: Client) -> None:
        """Case 77."""
        answer = await full("PATCH", "/_inference/dense")
        assert answer.json == {
            "error": "Incorrect HTTP method for uri [/_inference/dense] and method [PATCH], "
            "allowed: [GET, POST, PUT, DELETE]",
            "status": 405,
        }
        assert (answer.status, answer.headers["allow"]) == (405, "GET,POST,PUT,DELETE")

    async def test_78_no_handler(self, full: Client) -> None:
        """Case 78."""
        answer = await full("GET", "/_inference/a/b/c/d")
        assert (answer.status, answer.body) == (
            400,
            b'{"error":"no handler found for uri [/_inference/a/b/c/d] and method [GET]"}',
        )

    async def test_79_to_81_filter_path(self, full: Client) -> None:
        """Cases 79, 80, 81."""
        only = (await full("GET", "/_inference?filter_path=endpoints.inference_id")).json
        assert all(set(e) == {"inference_id"} for e in only["endpoints"])
        without = (await full("GET", "/_inference?filter_path=-endpoints.service_settings")).json
        assert all("service_settings" not in e and "service" in e for e in without["endpoints"])
        assert (await full("GET", "/_inference/dense?filter_path=nothing")).body == b"{}"

    async def test_82_error_trace(self, full: Client) -> None:
        """Case 82: each error object has a string."""
        error = (await full("GET", "/_inference/nope?error_trace=true")).json["error"]
        assert isinstance(error["stack_trace"], str)
        assert isinstance(error["root_cause"][0]["stack_trace"], str)

    async def test_83_and_84_versions(self, full: Client) -> None:
        """Cases 83, 84."""
        media = "application/vnd.elasticsearch+json;compatible-with=9"
        answer = await full("GET", "/_inference", headers={"Accept": media})
        assert answer.headers["content-type"] == media
        old = await full("GET", "/_inference", headers={"Accept": media.replace("9", "7")})
        assert (old.status, old.json["error"]["type"]) == (400, "media_type_header_exception")

    async def test_85_yaml(self, full: Client) -> None:
        """Case 85."""
        answer = await full("GET", "/_inference?format=yaml")
        assert answer.headers["content-type"] == "application/yaml"
        assert answer.body.startswith(b"---\n")

    async def test_86_head(self, full: Client) -> None:
        """Case 86, and the body of the GET."""
        answer = await full("HEAD", "/")
        assert (answer.status, answer.body, answer.headers["x-elastic-product"]) == (
            200,
            b"",
            "Elasticsearch",
        )
        root = (await full("GET", "/")).json
        assert root["version"]["number"] == "9.5.0"
        assert root["tagline"] == "You Know, for Search"
