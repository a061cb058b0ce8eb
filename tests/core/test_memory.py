"""Memory that is given back."""

import subprocess
import sys

import pytest

PROBE = """
import re, sys
from inferd.core import memory
memory.share_heaps()
def rss():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read()).group(1))
blocks = [bytes(50_000) + b"x" for _ in range(2000)]
last = blocks[-1]
full = rss()
blocks.clear()
free = rss()
if sys.argv[1] == "give":
    memory.give_back()
print(full - rss())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_is_free_goes_back() -> None:
    """A block above the free ones keeps the C library from giving them back by itself."""

    def given_back(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", PROBE, how], text=True))

    assert given_back("keep") < 50_000 < given_back("give")
