"""The command line: ``inferd serve | demo | models | endpoints | version`` and the keys of the house.

Exit codes: 0 done, 1 failed (one plain line on standard error says why), 2 wrong usage.
"""

import sys
from typing import Annotated

import typer

from inferd import __version__
from inferd.cli.accounts import reset_password, rotate_secrets
from inferd.cli.demo import demo
from inferd.cli.endpoints import endpoints_app
from inferd.cli.models import models_app
from inferd.cli.serve import serve

app = typer.Typer(
    name="inferd",
    help="Elasticsearch's inference API on this machine: no cluster, no JVM, no licence.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(demo)
app.add_typer(models_app, name="models")
app.add_typer(endpoints_app, name="endpoints")
app.command()(reset_password)
app.command()(rotate_secrets)


@app.command()
def version(json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False) -> None:
    """Print the version.

    Example: [bold]inferd version --json[/bold]
    """
    if json:
        print(f'{{"version":"{__version__}"}}')
    else:
        print(f"inferd {__version__}")


def main() -> None:
    """Entry point: a failure we can name is one line, never a traceback."""
    from inferd.config import ConfigError
    from inferd.errors import InferdError

    try:
        app()
    except (ConfigError, InferdError) as known:
        print(f"inferd: {getattr(known, 'reason', known)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
