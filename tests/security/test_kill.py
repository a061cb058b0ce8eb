"""kill -9 while users are written: what was acknowledged is there and whole, and the server starts again."""

import os
import signal
import threading
from pathlib import Path

from contract.house import basic

from .process import serving

PASSWORD = "elastic-password"
AS_ELASTIC = {"Authorization": basic("elastic", PASSWORD)}


def test_kill(tmp_path: Path) -> None:
    environment = {"ELASTIC_PASSWORD": PASSWORD}
    acknowledged: dict[str, str] = {}
    with serving(tmp_path / "data", tmp_path / "output", **environment) as server:

        def write() -> None:
            try:
                for number in range(10_000):
                    name, password = f"user{number % 7}", f"password-{number}"
                    body = {"password": password, "roles": [f"r{number}"], "full_name": f"r{number}"}
                    status, _ = server("PUT", f"/_security/user/{name}", body, headers=AS_ELASTIC)
                    assert status == 200
                    acknowledged[name] = password
            except OSError:
                return  # killed in the middle of it

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 7:
            writer.join(0.05)
        os.kill(server.process.pid, signal.SIGKILL)
        writer.join(30)
    last = max(int(password.rpartition("-")[2]) for password in acknowledged.values())
    with serving(tmp_path / "data", tmp_path / "output", **environment) as server:
        for name, password in acknowledged.items():
            number = int(password.rpartition("-")[2])
            begun = [number, number + 7] if number + 7 == last + 1 else [number]
            entered = [
                server(
                    "GET", "/_security/_authenticate", headers={"Authorization": basic(name, f"password-{n}")}
                )
                for n in begun
            ]
            assert [status for status, _ in entered].count(200) == 1, name
            [body] = [body for status, body in entered if status == 200]
            shown = begun[[status for status, _ in entered].index(200)]
            assert f'"roles":["r{shown}"],"full_name":"r{shown}"'.encode() in body
