"""``inferd version``."""

import json

import inferd as package
from serverprocess import inferd


def test_version() -> None:
    """For people and for programs; the package's own."""
    plain, told = inferd("version"), inferd("version", "--json")
    assert (plain.returncode, plain.stdout) == (0, f"inferd {package.__version__}\n")
    assert (told.returncode, json.loads(told.stdout)) == (0, {"version": package.__version__})
