"""One real server, with endpoints of bundled models and of a provider, for all tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import serverprocess
from serverprocess import ServerProcess

LOCAL = {"num_allocations": 1, "num_threads": 1}


def completion(url: str) -> dict[str, Any]:
    many = {"requests_per_minute": 1_000_000}
    settings = {"api_key": "sk-1", "model_id": "m", "url": url, "rate_limit": many}
    return {"service": "openai", "service_settings": settings}


@pytest.fixture(scope="session")
def provider() -> Iterator[Any]:
    with serverprocess.provider() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, provider: Any) -> Iterator[ServerProcess]:
    with furnished(tmp_path_factory.mktemp("server"), provider.url) as running:
        yield running


@contextmanager
def furnished(folder: Path, url: str) -> Iterator[ServerProcess]:
    """``local``, ``sparse`` and ``rank`` here; ``comp``, ``chat`` and ``dense`` at the provider."""
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
            answer = running.ask("PUT", f"/_inference/{task}/{id}", completion(url + path))
            assert answer.status == 200, answer.body
        yield running
