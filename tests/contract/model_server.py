"""A provider for the contract's cases: deterministic vectors, overlap scores, upper-cased completions."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


def vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [round(byte / 255 - 0.5, 4) for byte in digest[:4]]


async def embeddings(request: web.Request) -> web.Response:
    inputs = (await request.json())["input"]
    return web.json_response({"data": [{"embedding": vector(text)} for text in inputs]})


async def sparse(request: web.Request) -> web.Response:
    inputs = (await request.json())["inputs"]
    return web.json_response([{"sky": 1.5, "port": 2.25} for _ in inputs])


async def rerank(request: web.Request) -> web.Response:
    body = await request.json()
    words = set(body["query"].split())
    scores = [len(words & set(document.split())) / 10 for document in body["documents"]]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    results = [
        {"index": i, "relevance_score": scores[i], "document": {"text": body["documents"][i]}} for i in order
    ]
    if body.get("return_documents") is False:
        results = [{k: v for k, v in result.items() if k != "document"} for result in results]
    return web.json_response({"results": results[: body.get("top_n")]})


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    texts = [message["content"].upper() for message in body["messages"]]
    if not body["stream"]:
        choices = [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for i, text in enumerate(texts)
        ]
        return web.json_response({"id": "id", "model": "m", "choices": choices})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for text in texts:
        chunk = {"id": "id", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if text == "BREAK":
            await response.write(b'data: {"error": {"message": "broken", "type": "server_error"}}\n\n')
    await response.write(b"data: [DONE]\n\n")
    return response


@asynccontextmanager
async def running() -> AsyncIterator[str]:
    """The address of a running one."""
    app = web.Application()
    app.router.add_post("/embeddings", embeddings)
    app.router.add_post("/sparse", sparse)
    app.router.add_post("/rerank", rerank)
    app.router.add_post("/chat", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
