"""The C library's heaps: how many it keeps, and giving back what is free. Nothing happens outside glibc.

https://sourceware.org/glibc/manual/latest/html_node/Malloc-Tunable-Parameters.html
"""

import ctypes
import sys
from typing import Any

_ARENA_MAX = -8
_HEAPS = 2


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def share_heaps() -> None:
    """Few heaps for all threads: each keeps what its thread once needed. To be called before there are threads."""
    if mallopt := _glibc("mallopt"):
        mallopt(_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Free memory goes back to the system. Takes some milliseconds."""
    if trim := _glibc("malloc_trim"):
        trim(0)
