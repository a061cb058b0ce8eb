"""Schemathesis asks every route what its description allows, and what it does not: no 5xx, and no answer that is not as described.

https://schemathesis.readthedocs.io/. Models run here; no provider is called.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from serverprocess import ServerProcess, started

pytestmark = pytest.mark.timeout(900)

CHECKS = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
)
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "40"))
LOCAL = {
    "dense": ("text_embedding", ".all-minilm-l6-v2"),
    "sparse": ("sparse_embedding", ".minilm-sparse"),
    "rank": ("rerank", ".rerank-v1"),
}
BY_TASK = {task: id for id, (task, _) in LOCAL.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with started(folder, "--no-security", environ={"INFERD_API__SKIP_VALIDATE": "true"}) as server:
        for id, (task, model) in LOCAL.items():
            sized = {"model_id": model, "num_allocations": 1, "num_threads": 1}
            body = {"service": "elasticsearch", "service_settings": sized}
            assert server.ask("PUT", f"/_inference/{task}/{id}", body).status == 200
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def described(server: ServerProcess) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_the_server_does_what_it_says(described: Any, server: ServerProcess, mode: Any) -> None:
    """Any request, good or bad, to every operation: what comes back is described."""
    failures = [
        f"{operation.label}: {failure}"
        for operation in (found.ok() for found in described.get_all_operations())
        for failure in failures_of(operation, server, mode)
    ]
    assert not failures, "\n\n".join(failures)


def failures_of(operation: Any, server: ServerProcess, mode: Any) -> list[str]:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        aim(case)
        case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=60)

    try:
        ask()
    except Unsatisfiable:  # nothing is wrong with any request to this operation
        return []
    except (AssertionError, BaseExceptionGroup) as wrong:
        return [str(failure) for failure in getattr(wrong, "exceptions", (wrong,))]
    return []


def aim(case: Any) -> None:
    """At endpoints that are there: random names would mostly meet 404. What these tests live on stays."""
    path, body = case.operation.path, case.body
    rerank = "rerank" in path or (isinstance(body, dict) and "query" in body)
    sparse = "sparse" in path
    target = "rank" if rerank else "sparse" if sparse else "dense"
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        body["model"] = target
    asks = case.method == "POST" and path.startswith("/_inference/{")
    if path.startswith("/tei/") or asks:
        case.path_parameters["id"] = BY_TASK.get(case.path_parameters.get("task"), target)
    elif case.method == "DELETE" and case.path_parameters.get("id") in ("*", *LOCAL):
        case.path_parameters["id"] = "nothing"
