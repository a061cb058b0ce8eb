"""The service of this machine's own models: what PUT, GET and _update make of its settings."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from inferd.actions import get, put
from inferd.actions.house import House
from inferd.core.inputs import RankQuery, Texts
from inferd.core.settings import wrong_type
from inferd.core.tasks import TaskType
from inferd.services.elasticsearch import SERVICE
from inferd.upstream.client import Upstream

from .base import ID, Bad, Case, Change, SettingsTest, house_of

TEXT, SPARSE, RERANK = TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.RERANK

SETTINGS = {"model_id": ".multilingual-e5-small", "num_allocations": 1, "num_threads": 2}
ADAPTIVE = {"enabled": True, "min_number_of_allocations": 0, "max_number_of_allocations": 32}
RERANKER = {"model_id": ".rerank-v1", "num_allocations": 1, "num_threads": 1}
CHUNKED = "The [max_chunks_per_doc] setting requires [long_document_strategy] to be set to [chunk]"
THREADS = "[service_settings] does not contain the required setting [num_threads]"
ALLOCATIONS = (
    "[service_settings] does not contain one of the required settings [num_allocations, adaptive_allocations]"
)


def here(task: TaskType, settings: dict[str, Any]) -> Case:
    inputs = RankQuery("a", ("b",)) if task is RERANK else Texts(("a",))
    return Case(task=task, service_settings=settings, inputs=inputs, path="", headers={})


class TestElasticsearch(SettingsTest):
    service = SERVICE
    cases = (here(TEXT, SETTINGS), here(SPARSE, SETTINGS), here(RERANK, RERANKER))
    bad = (
        Bad(TEXT, {}, reason="Error parsing service settings, model_id must be provided"),
        Bad(TEXT, {"model_id": "m"}, faults=(ALLOCATIONS, THREADS)),
        Bad(TEXT, {"model_id": "m", "num_threads": 1}, faults=(ALLOCATIONS,)),
        Bad(TEXT, {"model_id": "m", "adaptive_allocations": {"enabled": True}}, faults=(THREADS,)),
        Bad(
            TEXT,
            {**SETTINGS, "num_allocations": 0, "num_threads": 0},
            faults=(
                "[service_settings] Invalid value [0]. [num_allocations] must be a positive integer",
                "[service_settings] Invalid value [0]. [num_threads] must be a positive integer",
            ),
        ),
        *(
            Bad(
                TEXT,
                {**SETTINGS, "num_threads": threads},
                faults=(
                    f"[service_settings] Invalid value [{threads}]. [num_threads] must be a power of 2 less than or "
                    "equal to 32",
                ),
            )
            for threads in (3, 33, 64)
        ),
        Bad(
            TEXT,
            {**SETTINGS, "adaptive_allocations": {"enabled": True, "foo": 1}},
            faults=("[adaptive_allocations] does not allow the setting [foo]",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "adaptive_allocations": {"min_number_of_allocations": -1}},
            faults=("[min_number_of_allocations] must be a non-negative integer or null",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "adaptive_allocations": {"max_number_of_allocations": 0}},
            faults=("[max_number_of_allocations] must be a positive integer or null",),
        ),
        Bad(
            TEXT,
            {
                **SETTINGS,
                "adaptive_allocations": {"min_number_of_allocations": 3, "max_number_of_allocations": 2},
            },
            faults=("[min_number_of_allocations] must not be larger than [max_number_of_allocations]",),
        ),
        Bad(
            TEXT,
            {
                **SETTINGS,
                "adaptive_allocations": {"enabled": "yes", "max_number_of_allocations": 1.5},
            },
            faults=(
                wrong_type("enabled", "yes", "Boolean"),
                wrong_type("max_number_of_allocations", 1.5, "Integer"),
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "model_id": "m", "similarity": "x", "element_type": "bit", "dimensions": 384},
            faults=(
                "[service_settings] does not allow the setting [dimensions]",
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [bit] received. [element_type] must be one of [byte, float]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "similarity": "cosine", "element_type": "float"},
            reason="Configuration contains settings [{similarity=cosine, element_type=float}] unknown to the "
            "[elasticsearch] service",
        ),
        Bad(RERANK, {**RERANKER, "max_chunks_per_doc": 2}, faults=(CHUNKED,)),
        Bad(
            RERANK,
            {**RERANKER, "max_chunks_per_doc": 2, "long_document_strategy": "truncate"},
            faults=(CHUNKED,),
        ),
        Bad(
            RERANK,
            {**RERANKER, "long_document_strategy": "cut", "max_chunks_per_doc": 0},
            {"return_documents": "no"},
            faults=(
                "[service_settings] Invalid value [cut] received. [long_document_strategy] must be one of "
                "[chunk, truncate]",
                "[service_settings] Invalid value [0]. [max_chunks_per_doc] must be a positive integer",
                wrong_type("return_documents", "no", "Boolean"),
            ),
        ),
        Bad(
            SPARSE,
            {**SETTINGS, "similarity": "cosine"},
            reason="Configuration contains settings [{similarity=cosine}] unknown to the [elasticsearch] service",
        ),
        Bad(
            SPARSE,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 1}},
            reason="Configuration contains settings [{rate_limit={requests_per_minute=1}}] unknown to the "
            "[elasticsearch] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"num_allocations": 4},
            shown={"num_allocations": 4, "num_threads": 2, "model_id": ".multilingual-e5-small"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"adaptive_allocations": ADAPTIVE},
            shown={
                "num_threads": 2,
                "model_id": ".multilingual-e5-small",
                "adaptive_allocations": ADAPTIVE,
            },
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"adaptive_allocations": ADAPTIVE, "num_allocations": 1},
            faults=("[num_allocations] and [adaptive_allocations] can not be updated together",),
        ),
        *(
            Change(
                task=TEXT,
                stored=SETTINGS,
                service_settings={key: value},
                faults=(f"[service_settings] does not allow the setting [{key}]",),
            )
            for key, value in (("num_threads", 4), ("model_id", "another"), ("deployment_id", "d"))
        ),
        Change(
            task=RERANK,
            stored=RERANKER,
            task_settings={"return_documents": False},
            shown_task={"return_documents": False},
        ),
    )

    def house(self, upstream: Upstream | None = None) -> House:
        """On which nothing is deployed yet."""
        nothing = SimpleNamespace(allocations=lambda id: None)
        return house_of({SERVICE.name: SERVICE}, host=nothing)

    @pytest.mark.parametrize(
        ("task", "given", "shown"),
        [
            (TEXT, SETTINGS, {"num_allocations": 1, "num_threads": 2, "model_id": ".multilingual-e5-small"}),
            (
                SPARSE,
                {"adaptive_allocations": ADAPTIVE, "model_id": ".elser_model_2", "num_threads": 1},
                {"num_threads": 1, "model_id": ".elser_model_2", "adaptive_allocations": ADAPTIVE},
            ),
            (TEXT, {"deployment_id": "theirs"}, {"deployment_id": "theirs"}),
            (
                TEXT,
                {**SETTINGS, "model_id": "m", "similarity": "DOT_PRODUCT", "element_type": "byte"},
                {
                    "num_allocations": 1,
                    "num_threads": 2,
                    "model_id": "m",
                    "similarity": "dot_product",
                    "element_type": "byte",
                },
            ),
            (
                RERANK,
                {**RERANKER, "long_document_strategy": "chunk", "max_chunks_per_doc": 3},
                {
                    "num_allocations": 1,
                    "num_threads": 1,
                    "model_id": ".rerank-v1",
                    "long_document_strategy": "chunk",
                    "max_chunks_per_doc": 3,
                },
            ),
        ],
    )
    def test_shown_settings(self, task: TaskType, given: dict[str, Any], shown: dict[str, Any]) -> None:
        """GET shows what was put, in the documented order, and no rate limit."""
        seen = self.seen(self.endpoint(task, given))
        assert list(seen["service_settings"].items()) == list(shown.items())
        assert seen.get("task_settings") == ({"return_documents": True} if task is RERANK else None)
        assert ("chunking_settings" in seen) is (task is not RERANK)

    def test_elser_needs_no_model(self) -> None:
        """Under its old name the service knows which model is meant, and shows its new name."""
        settings = {"num_threads": 1, "num_allocations": 1}
        call = SERVICE.calls[SPARSE]
        endpoint = put.read_endpoint(SERVICE, call, ID, SPARSE, {"service_settings": settings}, "elser")
        seen = self.seen(endpoint)
        assert seen["service"] == "elasticsearch"
        assert seen["service_settings"] == {
            "num_allocations": 1,
            "num_threads": 1,
            "model_id": ".elser_model_2",
        }
        assert SERVICE.deprecated_aliases["elser"] == (
            "The [elser] service is deprecated and will be removed in a future release. Use the [elasticsearch] "
            "service instead, with [model_id] set to [.elser_model_2] in the [service_settings]"
        )

    def test_default_endpoints(self) -> None:
        """Three endpoints exist without anybody having made them."""
        found = {endpoint.id: endpoint for endpoint in SERVICE.defaults}
        assert [(id, str(e.task), e.settings["model_id"]) for id, e in found.items()] == [
            (".elser-2-elasticsearch", "sparse_embedding", ".elser_model_2"),
            (".multilingual-e5-small-elasticsearch", "text_embedding", ".multilingual-e5-small"),
            (".rerank-v1-elasticsearch", "rerank", ".rerank-v1"),
        ]
        for endpoint in found.values():
            assert endpoint.settings["num_threads"] == 1
            assert endpoint.settings["adaptive_allocations"] == ADAPTIVE
            assert endpoint.task_settings == ({"return_documents": True} if endpoint.task is RERANK else {})
            assert endpoint.chunking == (
                None
                if endpoint.task is RERANK
                else {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}
            )

    def test_adaptive_endpoints_show_their_present_size(self) -> None:
        """While a deployment adapts, GET says how many allocations it has now."""
        house = self.house()
        house.host = SimpleNamespace(allocations=lambda id: 3)
        endpoint = replace(SERVICE.defaults[0], id="mine")
        shown = get.shown_settings(house, endpoint)
        assert list(shown)[:2] == ["num_allocations", "num_threads"]
        assert shown["num_allocations"] == 3
