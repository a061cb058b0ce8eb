"""One real server and one provider for all tests of this folder's modules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import serverprocess
from serverprocess import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server")
    with serverprocess.started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def provider() -> Iterator[Any]:
    with serverprocess.provider() as running:
        yield running
