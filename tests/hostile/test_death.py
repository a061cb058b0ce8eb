"""The end of a server, asked for or not: nothing that was acknowledged is lost, nobody waits in vain."""

import http.client
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hostile.conftest import completion
from serverprocess import ServerProcess, started

OPEN = "--no-security"


def test_sigterm_in_flight(tmp_path: Path, provider: Any) -> None:
    """A request in flight is finished, a new one is answered 503 or refused, the exit status is 0."""
    provider.go.set()
    with started(tmp_path, OPEN) as server:
        config = completion(f"{provider.url}/slow/chat")
        assert server.ask("PUT", "/_inference/completion/slow", config).status == 200
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        kept.request("GET", "/_inference")
        assert kept.getresponse().read()
        provider.go.clear()
        provider.began.clear()
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(server.ask("POST", "/_inference/slow", {"input": "last"}))
        )
        asking.start()
        assert provider.began.wait(10)
        server.process.send_signal(signal.SIGTERM)
        refused = 0
        for _ in range(20):
            try:
                refused += server.ask("GET", "/_inference").status == 503
            except OSError:
                refused += 1
            time.sleep(0.02)
        assert refused >= 18
        assert server.process.poll() is None
        provider.go.set()
        asking.join(20)
        assert server.process.wait(20) == 0
        kept.close()
    assert (answers[0].status, answers[0].json) == (200, {"completion": [{"result": "LAST"}]})
    assert "Traceback" not in server.log


def test_sigterm_beyond_its_grace(tmp_path: Path, provider: Any) -> None:
    """What takes longer than ``http.drain`` is answered 503, and the exit status is still 0."""
    provider.go.set()
    with started(tmp_path, OPEN, environ={"INFERD_HTTP__DRAIN": "1"}) as server:
        config = completion(f"{provider.url}/slow/chat")
        assert server.ask("PUT", "/_inference/completion/slow", config).status == 200
        provider.go.clear()
        provider.began.clear()
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(server.ask("POST", "/_inference/slow", {"input": "last"}))
        )
        asking.start()
        assert provider.began.wait(10)
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 10
        asking.join(20)
        provider.go.set()
    assert answers[0].status == 503


def test_sigterm_under_load(tmp_path: Path, provider: Any) -> None:
    """Eight clients that never stop asking see answers, 503 and closed connections, and nothing else."""
    provider.go.set()
    with started(tmp_path, OPEN) as server:
        config = completion(f"{provider.url}/openai/chat")
        assert server.ask("PUT", "/_inference/completion/c", config).status == 200
        seen: list[int] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                try:
                    seen.append(server.ask("POST", "/_inference/c", {"input": "x"}).status)
                except ConnectionRefusedError:
                    return
                except (OSError, http.client.HTTPException):
                    seen.append(0)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert server.stop() == 0
        over.set()
        for thread in threads:
            thread.join()
    assert {200} <= set(seen) <= {200, 503, 0}
    assert seen.count(0) <= 8
    assert "Traceback" not in server.log


def test_sigkill_loses_nothing_acknowledged(tmp_path: Path, provider: Any) -> None:
    """Killed at random moments while endpoints come, change and go: whoever was told of a change finds it there."""
    told: dict[str, Any] = {}
    chance = random.Random(7)
    for turn in range(3):
        with started(tmp_path, OPEN, environ={"INFERD_API__SKIP_VALIDATE": "true"}) as server:
            present = {e["inference_id"]: e for e in server.ask("GET", "/_inference").json["endpoints"]}
            for id, expected in told.items():
                unsure = expected is None
                assert unsure or present.get(id) == (expected or None), id
            told = {id: present.get(id, {}) for id in told}
            killer = threading.Timer(0.2 + chance.random() * 0.3, server.process.kill)
            killer.start()
            _change_until_dead(server, turn, told, chance, provider.url)
            killer.join()
    assert len(told) > 20


def _change_until_dead(
    server: ServerProcess, turn: int, told: dict[str, Any], chance: random.Random, url: str
) -> None:
    """``told``: the endpoint as answered, ``{}`` once deleted, None while a change is not acknowledged."""
    for n in range(10_000):
        id = f"e{turn}-{n}"
        old = [key for key, value in told.items() if value]
        try:
            match chance.randrange(4) if old else 0:
                case 0 | 1:
                    told[id] = None
                    answer = server.ask("PUT", f"/_inference/completion/{id}", completion(url))
                    expected: Any = answer.json
                case 2:
                    id = chance.choice(old)
                    told[id] = None
                    change = {"task_settings": {"user": f"u{n}"}}
                    answer = server.ask("PUT", f"/_inference/completion/{id}/_update", change)
                    expected = answer.json
                case _:
                    id = chance.choice(old)
                    told[id] = None
                    answer = server.ask("DELETE", f"/_inference/{id}")
                    expected = {}
        except (OSError, http.client.HTTPException):
            return
        assert answer.status == 200, answer.body
        told[id] = expected
