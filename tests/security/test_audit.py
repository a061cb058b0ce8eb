"""The audit log: who did what, from where, with which outcome, and nothing that is secret."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from contract.house import basic, call, create_endpoints, secured
from contract.model_server import running
from inferd.config import ConfigError, Security
from inferd.security import audit
from inferd.security.audit import AuditLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def opened(path: Path, **more: Any) -> AuditLog:
    return AuditLog(path, **{"max_bytes": 1 << 20, "keep": 3, **more})


async def test_events(tmp_path: Path) -> None:
    """A line for each refusal and each change; none for what was let in, unless that is asked for."""
    async with running() as url, secured(tmp_path, url) as root:
        await create_endpoints(root)
        await root("PUT", "/_security/user/ann", {"password": "password-1", "roles": ["inference_user"]})
        ann = root.as_(basic("ann", "password-1"))
        await ann("POST", "/_inference/dense", {"input": "a text that stays here"})
        await ann("DELETE", "/_inference/dense", headers={"X-Opaque-Id": "req-7"})
        await root.as_(basic("ann", "wrong-password"))("GET", "/_inference/dense?secret=in-the-query")
        await root.as_(None)("GET", "/v1/models")
        made = (await root("PUT", "/_security/api_key", {"name": "k"})).json
        await root("DELETE", "/_security/api_key", {"ids": [made["id"]]})
        await root.as_(f"ApiKey {made['encoded']}")("GET", "/")
        await root("DELETE", "/_inference/dense")
        await root("DELETE", "/_security/user/ann")
        await root("DELETE", "/_security/user/ann")
    log = tmp_path / "audit.log"
    assert log.stat().st_mode & 0o777 == 0o600
    found = lines(log)
    assert all(line.pop("@timestamp").endswith("Z") and line.pop("address") == "127.0.0.1" for line in found)
    ids = [line.pop("request_id") for line in found]
    elastic = {"user": "elastic", "realm": "native1"}
    put = {"event": "change", "outcome": "created", **elastic}
    put |= {
        "action": "cluster:admin/xpack/inference/put",
        "method": "PUT",
        "route": "/_inference/{task}/{id}",
    }
    users = {"event": "change", **elastic, "target": "user/ann", "route": "/_security/user/{name}"}
    security = "cluster:admin/xpack/security/"
    key = {"event": "change", **elastic, "target": f"api_key/{made['id']}", "route": "/_security/api_key"}
    assert found == [
        *({**put, "target": id} for id in ("dense", "sparse", "rr", "comp", "chat", "mm")),
        {**users, "outcome": "created", "action": f"{security}user/put", "method": "PUT"},
        {
            "event": "access_denied",
            "user": "ann",
            "realm": "native1",
            "target": "dense",
            "action": "cluster:admin/xpack/inference/delete",
            "method": "DELETE",
            "route": "/_inference/{id}",
        },
        {
            "event": "authentication_failed",
            "reason": "unable to authenticate user [ann]",
            "user": "ann",
            "action": "cluster:monitor/xpack/inference/get",
            "method": "GET",
            "route": "/_inference/{id}",
        },
        {
            "event": "authentication_failed",
            "reason": "missing authentication credentials",
            "action": "cluster:monitor/xpack/inference/get",
            "method": "GET",
            "route": "/v1/models",
        },
        {**key, "outcome": "created", "action": f"{security}api_key/create", "method": "PUT"},
        {**key, "outcome": "invalidated", "action": f"{security}api_key/invalidate", "method": "DELETE"},
        {
            "event": "authentication_failed",
            "reason": f"API key: api key [{made['id']}] has been invalidated",
            "api_key_id": made["id"],
            "action": "cluster:monitor/main",
            "method": "GET",
            "route": "/",
        },
        {
            **put,
            "outcome": "deleted",
            "target": "dense",
            "action": "cluster:admin/xpack/inference/delete",
            "method": "DELETE",
            "route": "/_inference/{id}",
        },
        {**users, "outcome": "deleted", "action": f"{security}user/delete", "method": "DELETE"},
    ]
    assert ids[7] == "req-7"
    assert len(set(ids)) == len(ids)
    raw = log.read_text()
    for secret in (
        "password-1",
        "wrong-password",
        made["api_key"],
        made["encoded"],
        "a text that",
        "in-the-query",
        "key-1",
    ):
        assert secret not in raw


async def test_successes_when_asked_for(tmp_path: Path) -> None:
    async with secured(tmp_path, security=Security(audit_success=True)) as root:
        await root("GET", "/")
    [line] = lines(tmp_path / "audit.log")
    assert (line["event"], line["user"]) == ("authentication_success", "elastic")


async def test_off(tmp_path: Path) -> None:
    async with secured(tmp_path, security=Security(audit=False)) as root:
        await root.as_(None)("GET", "/")
    assert not (tmp_path / "audit.log").exists()


async def test_another_place(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.log"
    async with secured(tmp_path / "data", security=Security(audit_file=str(file))) as root:
        await root.as_(None)("GET", "/")
    assert len(lines(file)) == 1


async def test_hostile_values(tmp_path: Path) -> None:
    """One line each, whatever is in it; what comes from outside is cut."""
    async with secured(tmp_path) as root:
        await root.as_(basic("a\nb\0\u2028" + "n" * 5000, "x"))("GET", "/")
        await call(root.app, "GET", "/%00%0a/" + "p" * 3000, "", b"", {"X-Opaque-Id": 'i"\x7f' * 500})
    first, second = lines(tmp_path / "audit.log")
    assert first["user"].startswith("a\nb\0\u2028n")
    assert max(len(str(value)) for value in [*first.values(), *second.values()]) <= 257
    assert "route" not in second


def test_rotation(tmp_path: Path) -> None:
    """By size; the oldest goes; every file is the owner's alone."""
    path = tmp_path / "audit.log"
    log = opened(path, max_bytes=1000, keep=2)
    for number in range(100):
        log.note("x", n=number)
        while not log._queue.empty():
            pass
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(file.stat().st_size <= 1000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    kept = [line["n"] for file in reversed(files) for line in lines(file)]
    assert kept == list(range(100 - len(kept), 100))


def test_two_writers(tmp_path: Path) -> None:
    """Two processes' logs share one file: no line is lost or torn when either of them rotates it."""
    path = tmp_path / "audit.log"
    logs = [opened(path, max_bytes=4000, keep=100) for _ in range(2)]

    def write(log: AuditLog, name: str) -> None:
        for number in range(500):
            log.note("x", who=name, n=number)
            if not number % 10:
                threading.Event().wait(0.001)

    threads = [threading.Thread(target=write, args=(log, str(n))) for n, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
    found = [line for file in tmp_path.iterdir() for line in lines(file)]
    assert sorted((line["who"], line["n"]) for line in found) == sorted(
        (who, n) for who in "01" for n in range(500)
    )
    assert len(list(tmp_path.iterdir())) > 5


def test_rotated_by_another_process_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for the lock while somebody else rotated goes on in the new file."""
    path = tmp_path / "audit.log"
    log = opened(path, max_bytes=200)
    log.note("x", n=0)
    while not path.stat().st_size:
        pass

    def locked(file: int, operation: int) -> None:
        path.rename(tmp_path / "audit.log.1")
        path.write_text('{"n":"theirs"}\n')

    monkeypatch.setattr(audit.fcntl, "flock", locked)
    log.note("x" * 150, n=1)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.log", "audit.log.1"]
    assert [line["n"] for line in lines(path)] == ["theirs", 1]


def test_moved_away(tmp_path: Path) -> None:
    """An administrator may move the file: a new one is begun."""
    path = tmp_path / "audit.log"
    log = opened(path)
    log.note("x", n=1)
    while not path.stat().st_size:
        pass
    path.rename(tmp_path / "old")
    log.note("x", n=2)
    log.close()
    assert [line["n"] for line in lines(path)] == [2]
    assert [line["n"] for line in lines(tmp_path / "old")] == [1]


def test_lost_lines_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A full queue loses lines, never time, and the log says how many."""
    go = threading.Event()
    write = os.write
    monkeypatch.setattr(audit.os, "write", lambda file, data: (go.wait(5), write(file, data))[1])
    log = opened(tmp_path / "audit.log", capacity=4)
    for number in range(50):
        log.note("x", n=number)
    lost = log.dropped
    assert lost >= 44
    go.set()
    while not log._queue.empty():
        pass
    log.note("x", n=50)
    log.close()
    found = lines(tmp_path / "audit.log")
    assert [line["count"] for line in found if line["event"] == "lines_lost"] == [lost]
    assert len(found) - 1 == 51 - lost
    assert f"[{lost}] audit lines were lost" in caplog.text


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """What cannot be written is counted, said once in the server's log, and written of when there is room again."""
    real, full = os.write, True

    def write(file: int, data: bytes) -> int:
        if full and data.startswith(b"{"):
            return real(file, data[:9])
        if full:
            raise OSError(28, "No space left on device")
        return real(file, data)

    log = opened(tmp_path / "audit.log")
    monkeypatch.setattr(audit.os, "write", write)
    for number in range(3):
        log.note("x", n=number)
        while log.dropped <= number:
            pass
    assert caplog.text.count("No space left on device") == 1
    full = False
    log.note("x", n=3)
    log.close()
    whole = [line for line in (tmp_path / "audit.log").read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [(line["event"], line.get("count"), line.get("n")) for line in map(json.loads, whole)] == [
        ("lines_lost", 3, None),
        ("x", None, 3),
    ]


def test_not_writable(tmp_path: Path) -> None:
    """Found out at the start, and a link is not followed."""
    with pytest.raises(ConfigError, match=r"audit file .*nowhere.*: No such file or directory"):
        opened(tmp_path / "nowhere" / "audit.log")
    (tmp_path / "audit.log").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError):
        opened(tmp_path / "audit.log")


async def test_noting_is_quick(tmp_path: Path) -> None:
    """A thousand lines do not keep the event loop: noting only queues."""
    log = opened(tmp_path / "audit.log", capacity=100)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(1000):
        log.note("x", n=number)
    assert loop.time() - began < 0.5
    await asyncio.to_thread(log.close)


def test_surrogates(tmp_path: Path) -> None:
    """A text that is not Unicode is mended, not lost."""
    log = opened(tmp_path / "audit.log")
    log.note("x", user="a\ud800b")
    log.close()
    assert [line["user"] for line in lines(tmp_path / "audit.log")] == ["a?b"]
