"""docs/security.md says what is."""

import re
from pathlib import Path

from inferd.security.privileges import BUILT_IN, CLUSTER

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def first_column(heading: str) -> list[str]:
    table = PAGE.partition(heading)[2].partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def test_roles() -> None:
    assert first_column("| role | may |") == list(BUILT_IN)


def test_privileges() -> None:
    assert sorted(first_column("| privilege | grants |")) == list(CLUSTER)


def test_events() -> None:
    guard = (Path(__file__).parents[2] / "src" / "inferd" / "api" / "guard.py").read_text()
    named = set(re.findall(r'_note\(\s*request,\s*"(\w+)"', guard))
    assert named | {"lines_lost"} == set(first_column("| event | when |"))
    assert len(named) == 4
