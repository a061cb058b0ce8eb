"""``inferd serve``: read the configuration, build the application, run it."""

from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [9200]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where endpoints, keys and downloaded models are kept.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    security: Annotated[
        bool | None, typer.Option("--security/--no-security", help="Ask for credentials (the default).")
    ] = None,
    allow_open_network: Annotated[
        bool,
        typer.Option(
            "--allow-open-network", help="Without security: listen on more than this machine's own addresses."
        ),
    ] = False,
) -> None:
    """Serve the inference API until SIGTERM or Ctrl-C.

    At the first start the user [bold]elastic[/bold] is created; its password is printed once, or taken from ELASTIC_PASSWORD.

    Every setting is also a variable, INFERD_… with __ for nesting: INFERD_HTTP__PORT=9300,
    INFERD_SERVICES__OPENAI__BASE_URL=http://127.0.0.1:8000.

    Examples:

      inferd serve

      inferd serve --host 0.0.0.0 --port 9200 --data-dir /var/lib/inferd --config /etc/inferd.toml

      inferd serve --no-security        (this machine only)
    """
    from inferd.api.app import run
    from inferd.config import load

    overrides: dict[str, Any] = {}
    if host is not None:
        overrides.setdefault("http", {})["host"] = host
    if port is not None:
        overrides.setdefault("http", {})["port"] = port
    if data_dir is not None:
        overrides["data_dir"] = str(data_dir)
    if security is not None:
        overrides.setdefault("security", {})["enabled"] = security
    if allow_open_network:
        overrides.setdefault("security", {})["allow_open_network"] = True
    raise SystemExit(run(load(str(config) if config else None, overrides)))
