"""``inferd demo``: the main job, for real, through the official Elasticsearch client."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferd.errors import InferdError

if TYPE_CHECKING:
    from elasticsearch import ApiError, Elasticsearch, TransportError
    from rich.console import Console

SKY = "The sky above the port was the color of television tuned to a dead channel."
WORDS = ("luke", "like", "leia", "chewy", "r2d2", "star", "wars")
QUERY = "star wars main character"
QUESTION = "What is Elastic?"
START_TIMEOUT = 60.0


def demo(
    openai_url: Annotated[
        str | None,
        typer.Option(help="Chat completions URL of any OpenAI-compatible server.", envvar="OPENAI_URL"),
    ] = None,
    openai_key: Annotated[str | None, typer.Option(help="Its key.", envvar="OPENAI_API_KEY")] = None,
    openai_model: Annotated[str, typer.Option(help="Its model.", envvar="OPENAI_MODEL")] = "gpt-4o-mini",
    no_security: Annotated[
        bool, typer.Option("--no-security", help="Start the server without credentials.")
    ] = False,
) -> None:
    """Start a server on an embedded store, create endpoints, and ask for every kind of inference.

    The models come with the package: no network and no key are needed. Completion needs an OpenAI-compatible server.

    Examples:

      inferd demo

      OPENAI_API_KEY=sk-… inferd demo

      inferd demo --openai-url http://127.0.0.1:8080/v1/chat/completions --openai-model qwen
    """
    try:
        from elasticsearch import ApiError, Elasticsearch, TransportError
    except ImportError:
        raise InferdError("the demo talks through the official client: pip install 'inferd[demo]'") from None
    from rich.console import Console

    console = Console(highlight=False)
    password = secrets.token_urlsafe(12)
    with tempfile.TemporaryDirectory(prefix="inferd-demo-") as folder:
        started = time.perf_counter()
        with _server(Path(folder), None if no_security else password) as url:
            auth = None if no_security else ("elastic", password)
            client = Elasticsearch(url, basic_auth=auth, request_timeout=60)
            console.print(
                f"[bold]inferd[/bold] on {url}, ready after {time.perf_counter() - started:.1f} s, "
                f"{'open' if no_security else 'user [bold]elastic[/bold] with a generated password'}; "
                f"client elasticsearch-py {_client_version()}\n"
            )
            try:
                _show(client, console)
                _complete(client, console, openai_url, openai_key, openai_model)
            except (ApiError, TransportError) as failed:
                raise InferdError(_reason(failed)) from None
            finally:
                client.close()


def _reason(failed: "ApiError | TransportError") -> str:
    """The server's reason and what was behind it, in one line."""
    body = getattr(failed, "body", None)
    error = body.get("error") if isinstance(body, dict) else None
    reasons = []
    while isinstance(error, dict):
        if (reason := str(error.get("reason"))) not in reasons:
            reasons.append(reason)
        error = error.get("caused_by")
    return " Cause: ".join(reasons) or str(failed)


def _client_version() -> str:
    import elasticsearch

    return ".".join(str(part) for part in elasticsearch.VERSION)


def _show(client: "Elasticsearch", console: "Console") -> None:
    _sparse(client, console)
    _rerank(client, console)
    _dense(client, console)


def _create(client: "Elasticsearch", task: str, id: str, model: str) -> None:
    settings = {"model_id": model, "num_allocations": 1, "num_threads": 1}
    config = {"service": "elasticsearch", "service_settings": settings}
    # A stand-in is named under what it answers.
    _timed(lambda: client.inference.put(task_type=task, inference_id=id, inference_config=config))


def _sparse(client: "Elasticsearch", console: "Console") -> None:
    _create(client, "sparse_embedding", "my-sparse", ".elser_model_2")
    answer, seconds, warnings = _timed(
        lambda: client.inference.sparse_embedding(inference_id="my-sparse", input=SKY)
    )
    _title(console, "sparse_embedding", SKY, seconds)
    weights = answer["sparse_embedding"][0]["embedding"]
    console.print(
        "  " + "  ".join(f"{t} [bold]{w:.2f}[/bold]" for t, w in list(weights.items())[:14]) + "  …"
    )
    _warn(console, warnings)


def _rerank(client: "Elasticsearch", console: "Console") -> None:
    _create(client, "rerank", "my-rerank", ".rerank-v1")
    answer, seconds, warnings = _timed(
        lambda: client.inference.rerank(inference_id="my-rerank", query=QUERY, input=list(WORDS))
    )
    _title(console, "rerank", f"{QUERY}  ←  {', '.join(WORDS)}", seconds)
    ranked = answer["rerank"]
    console.print("  " + "  ".join(f"{r['text']} [bold]{r['relevance_score']:.2f}[/bold]" for r in ranked))
    _warn(console, warnings)


def _dense(client: "Elasticsearch", console: "Console") -> None:
    _create(client, "text_embedding", "my-dense", ".all-minilm-l6-v2")
    answer, seconds, warnings = _timed(
        lambda: client.inference.text_embedding(inference_id="my-dense", input=SKY)
    )
    _title(console, "text_embedding", SKY, seconds)
    vector = answer["text_embedding"][0]["embedding"]
    shown = ", ".join(f"{v:.6f}" for v in vector[:6])
    console.print(f"  [{shown}, …]  [bold]{len(vector)}[/bold] dimensions".replace("[-", "\\[-", 1))
    _warn(console, warnings)


def _complete(
    client: "Elasticsearch", console: "Console", url: str | None, key: str | None, model: str
) -> None:
    if not url and not key:
        console.print(
            "[bold]completion[/bold]  skipped: set OPENAI_API_KEY, or name any OpenAI-compatible server with --openai-url"
        )
        return
    settings: dict[str, Any] = {"api_key": key or "none", "model_id": model}
    if url:
        settings["url"] = url
    client.inference.put(
        task_type="completion",
        inference_id="my-completion",
        inference_config={"service": "openai", "service_settings": settings},
    )
    answer, seconds, _ = _timed(
        lambda: client.inference.completion(inference_id="my-completion", input=QUESTION)
    )
    _title(console, "completion", QUESTION, seconds)
    console.print("  " + str(answer["completion"][0]["result"]).strip(), markup=False)


def _timed(call: Any) -> tuple[Any, float, list[str]]:
    """The answer, the seconds it took, and the server's Warning headers."""
    import warnings as python_warnings

    started = time.perf_counter()
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        answer = call()
    return answer, time.perf_counter() - started, [str(w.message) for w in caught]


def _title(console: "Console", task: str, text: str, seconds: float) -> None:
    console.print(f"[bold]{task}[/bold]  [dim]{text}[/dim]  {seconds * 1000:.0f} ms")


def _warn(console: "Console", warnings: list[str]) -> None:
    for warning in warnings:
        console.print(f"  [yellow]warning:[/yellow] {warning}".replace("[.", "\\[."))
    console.print()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(folder: Path, password: str | None) -> Iterator[str]:
    """A server process of its own, ended by SIGTERM like any other."""
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "inferd",
        "serve",
        "--port",
        str(port),
        "--data-dir",
        str(folder / "data"),
    ]
    environment = dict(os.environ)
    if password is None:
        command.append("--no-security")
    else:
        environment["ELASTIC_PASSWORD"] = password
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InferdError(f"the server did not start:\n{log.read_text(errors='replace').strip()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise InferdError(f"the server was not ready within {START_TIMEOUT:g} s")
