"""One real server, with endpoints of bundled models and of a provider, for all tests of a module."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import serverprocess
from serverprocess import ServerProcess

LOCAL = {"num_allocations": 1, "num_threads": 1}


def completion(url: str) -> dict[str, Any]:
    return {"service": "openai", "service_settings": {"api_key": "sk-1", "model_id": "m", "url": url}}


@pytest.fixture(scope="module")
def provider() -> Iterator[Any]:
    with serverprocess.provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, provider: Any) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server")
    with serverprocess.started(folder) as running:
        for task, id, body in (
            ("text_embedding", "local", {**LOCAL, "model_id": ".all-minilm-l6-v2"}),
            ("sparse_embedding", "sparse", {**LOCAL, "model_id": ".minilm-sparse"}),
            ("rerank", "rank", {**LOCAL, "model_id": ".minilm-late-interaction"}),
        ):
            config = {"service": "elasticsearch", "service_settings": body}
            assert running.ask("PUT", f"/_inference/{task}/{id}", config).status == 200
        for task, id, path in (
            ("completion", "comp", "/openai/chat"),
            ("chat_completion", "chat", "/openai/chat"),
            ("text_embedding", "dense", "/openai/embeddings"),
        ):
            answer = running.ask("PUT", f"/_inference/{task}/{id}", completion(provider.url + path))
            assert answer.status == 200, answer.body
        yield running
