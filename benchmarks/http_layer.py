"""What the HTTP layer costs a request: a tiny handler behind `inferd.api.http` against plain ASGI on the same server.

    python benchmarks/http_layer.py [--requests 100000] [--connections 32]

Three servers, one after another, each in a process of its own: ``raw`` (ASGI, fixed answer), ``inferd get`` (routes,
media types, parameters) and ``inferd post`` (also a JSON body of one text, parsed). The client pipelines nothing. The
figure to look at is CPU seconds per 1000 requests of the server process; requests per second include the client, which
shares the machine.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time

import uvloop

GET = b"GET /_inference/text_embedding/dense HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
BODY = b'{"input":"What is the capital of France?"}'
POST = (
    b"POST /_inference/text_embedding/dense HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
ANSWER = b'{"text_embedding":[{"embedding":[0.1,0.2,0.3]}]}'


async def raw(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def inferd():
    from inferd.api.elastic import bodies, media, problems, render
    from inferd.api.elastic.params import Params
    from inferd.api.http import Application, Dialect, Route, Router
    from inferd.core.tasks import TaskType

    async def handler(request):
        params = Params(request)
        task = TaskType.parse(request.path_params["task"])
        params.duration("timeout")
        params.finish()
        if request.method == "POST":
            await bodies.question(request, task, typed=True)
        return await render.reply(request, ANSWER)

    dialect = Dialect(
        name="elastic", problem=problems.problem, check=media.check, check_body=media.check_body
    )
    routes = [
        Route(
            method=method,
            template="/_inference/{task}/{id}",
            handler=handler,
            params=frozenset({"timeout"}),
            body="none" if method == "GET" else "required",
        )
        for method in ("GET", "POST", "PUT", "DELETE")
    ]
    return Application(Router([(dialect, routes)]))


def serve(kind, port):
    if kind == "inferd":
        from inferd.api.server import Options, Server

        Server(inferd(), Options(port=port)).run()
        return
    import uvicorn

    uvicorn.run(raw, port=port, log_level="error", access_log=False, server_header=False)


class Client(asyncio.Protocol):
    def __init__(self, request, count, done):
        self.request, self.left, self.done, self.seen = request, count, done, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        self.seen += data
        head, found, rest = self.seen.partition(b"\r\n\r\n")
        if not found or len(rest) < len(ANSWER):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(repr(self.seen)))
            self.transport.close()
            return
        self.seen = b""
        self.left -= 1
        if self.left:
            self.transport.write(self.request)
        else:
            self.transport.close()
            self.done.set_result(None)


async def load(port, request, requests, connections):
    loop = asyncio.get_running_loop()
    waits = []
    for _ in range(connections):
        done = loop.create_future()
        await loop.create_connection(
            lambda done=done: Client(request, requests // connections, done), "127.0.0.1", port
        )
        waits.append(done)
    await asyncio.gather(*waits)


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port, request):
    for _ in range(100):
        try:
            uvloop.run(load(port, request, 10, 1))
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def measure(kind, request, port, options):
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", "raw" if kind.startswith("raw") else "inferd", str(port)]
    )
    try:
        wait_for(port, request)
        rounds = []
        for _ in range(3):
            before, began = cpu(server.pid), time.perf_counter()
            uvloop.run(load(port, request, options.requests, options.connections))
            wall, used = time.perf_counter() - began, cpu(server.pid) - before
            rounds.append((used / options.requests * 1e6, options.requests / wall))
        return [statistics.median(column) for column in zip(*rounds, strict=True)]
    finally:
        server.terminate()
        server.wait()


def main():
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    print("| server | CPU, µs a request | requests a second |\n|---|---|---|")
    kinds = (("raw get", GET), ("inferd get", GET), ("raw post", POST), ("inferd post", POST))
    for port, (kind, request) in enumerate(kinds, 18730):
        used, rate = measure(kind, request, port, options)
        print(f"| {kind} | {used:.1f} | {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
