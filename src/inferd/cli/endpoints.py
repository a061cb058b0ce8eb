"""``inferd endpoints``: the endpoints of a running server."""

from typing import Annotated, Any

import typer

from inferd.cli.calls import Server, segment

endpoints_app = typer.Typer(help="Look at the inference endpoints of a running server.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Address of the server.", envvar="INFERD_URL")]
User = Annotated[
    str | None,
    typer.Option(help="user:password; without a password ELASTIC_PASSWORD is used.", envvar="INFERD_USER"),
]
ApiKey = Annotated[str | None, typer.Option(help="Encoded API key.", envvar="INFERD_API_KEY")]
Ca = Annotated[str | None, typer.Option(help="Certificates to trust, PEM.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_URL = "http://127.0.0.1:9200"
_UNBROKEN = 1000
"""Columns for a pipe or a file: a line an endpoint."""


def _print(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


@endpoints_app.command("list")
def list_endpoints(
    url: Url = _URL, user: User = None, api_key: ApiKey = None, ca_certs: Ca = None, json: Json = False
) -> None:
    """List the endpoints.

    Examples:

      inferd endpoints list --user elastic:changeme

      INFERD_API_KEY=… inferd endpoints list --url https://inference.example:9200 --ca-certs ca.pem --json
    """
    found = Server(url, user, api_key, ca_certs).call("GET", "/_inference/_all")["endpoints"]
    if json:
        _print(found)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("inference id", "task type", "service", "model"):
        table.add_column(name, overflow="fold")
    for endpoint in found:
        settings = endpoint["service_settings"]
        model = settings.get("model_id") or settings.get("model") or settings.get("url") or ""
        table.add_row(endpoint["inference_id"], endpoint["task_type"], endpoint["service"], str(model))
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    console.print(table)


@endpoints_app.command("show")
def show(
    id: Annotated[str, typer.Argument(help="Inference id.")],
    url: Url = _URL,
    user: User = None,
    api_key: ApiKey = None,
    ca_certs: Ca = None,
    json: Json = False,
) -> None:
    """Print one endpoint, as JSON with or without --json.

    Example: inferd endpoints show my-endpoint
    """
    found = Server(url, user, api_key, ca_certs).call("GET", f"/_inference/{segment(id)}")
    _print(found["endpoints"][0])


@endpoints_app.command("delete")
def delete(
    id: Annotated[str, typer.Argument(help="Inference id.")],
    force: Annotated[bool, typer.Option("--force", help="Also one that every server has.")] = False,
    url: Url = _URL,
    user: User = None,
    api_key: ApiKey = None,
    ca_certs: Ca = None,
    json: Json = False,
) -> None:
    """Delete one endpoint.

    Example: inferd endpoints delete my-endpoint
    """
    query = "?force=true" if force else ""
    answer = Server(url, user, api_key, ca_certs).call("DELETE", f"/_inference/{segment(id)}{query}")
    if json:
        _print(answer)
    else:
        print(f"deleted [{id}]")
