"""What a table must say about where it was measured, and what processes use there. Linux: everything is read from /proc."""

import os
import platform
import socket
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cores() -> int:
    return len(os.sched_getaffinity(0))


def cpu(pids: Iterable[int]) -> float:
    """Seconds of processor time that these processes have used, all their threads together."""
    used = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / _TICK


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rss(pid: int) -> float:
    """Resident megabytes (10⁶)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def facts() -> str:
    """One line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    special = [
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    busy = os.getloadavg()[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("openvino", "uvicorn", "aiohttp"))
    return (
        f"{model}, {cores()} cores ({', '.join(special) or 'no vector extensions of note'}), {memory:.0f} GiB; "
        f"Linux {platform.release()}, Python {platform.python_version()}, {packages}. Load before: {busy:.1f}"
    )
