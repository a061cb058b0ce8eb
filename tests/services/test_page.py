"""docs/services.md is printed from the rows and the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from inferd.services import services

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date() -> None:
    """Whoever changes a service, or its tests, prints the page anew."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "services_doc.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


TABLE = [
    line.split("|")[1:-1]
    for line in (ROOT / "docs" / "services.md").read_text().splitlines()
    if line.startswith("| `") and line.count("|") == 8
]


@pytest.mark.parametrize("service", [s for s in services().values() if s.calls], ids=lambda s: s.name)
def test_every_task_is_tested(service: object) -> None:
    """Each service and task has a request, a reply and, where it streams, a stream among its cases."""
    rows = {row[1].strip(): row for row in TABLE if row[0].strip() == f"`{service.name}`"}  # type: ignore[attr-defined]
    for task, call in service.calls.items():  # type: ignore[attr-defined]
        request, reply, stream = (rows[task][n].strip() for n in (2, 3, 4))
        assert request != "0"
        assert reply != "0"
        assert stream == "—" if call.chunks is None else stream != "0"
