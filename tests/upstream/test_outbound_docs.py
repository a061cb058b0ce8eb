"""docs/outbound.md against the code."""

from pathlib import Path

import msgspec
import pytest

from inferd.config import Outbound, ServiceConfig
from inferd.upstream.egress import FORBIDDEN

TEXT = (Path(__file__).parents[2] / "docs" / "outbound.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [f.name for f in msgspec.structs.fields(Outbound)])
def test_every_setting_is_explained(name: str) -> None:
    """Each ``outbound`` setting has its place in the table, with its default when that is a number or a switch."""
    row = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{name}`" in line)
    default = getattr(Outbound(), name)
    if isinstance(default, int | float):
        shown = str(default).lower() if isinstance(default, bool) else f"{default:g}"
        assert f" {shown}" in row


def test_every_service_setting_is_explained() -> None:
    """So has each setting of ``services.<name>``."""
    assert all(f"`{f.name}`" in TEXT for f in msgspec.structs.fields(ServiceConfig))


def test_every_forbidden_network_is_named() -> None:
    """The policy's table is the one in the text."""
    assert all(f"`{str(network).removesuffix('/32').removesuffix('/128')}`" in TEXT for network in FORBIDDEN)
