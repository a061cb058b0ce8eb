"""``inferd models``: what models there are, and how they come here."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from inferd.config import Config
    from inferd.local.catalogue import Model
    from inferd.local.fetch import Options
    from inferd.local.shelf import Progress, Step

models_app = typer.Typer(help="List, fetch, check and carry local models.", no_args_is_help=True)

Ids = Annotated[list[str], typer.Argument(help="Models, as [bold]inferd models list[/bold] names them.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
ModelsDir = Annotated[
    Path | None, typer.Option(help="Where models are kept (default: models.dir, INFERD_MODELS_DIR).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models_app.command("list")
def list_models(
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", hidden=True)] = False,
) -> None:
    """List the models: what they do, what they cost, whether they are here.

    Example: inferd models list --json
    """
    rows = describe(_load(config, models_dir))
    if markdown:
        print(markdown_table(rows))
    elif json:
        _print(rows)
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, Any]]) -> None:
    """The models by task, then Elastic's names and who answers to them. Ids are never folded: they are for copying."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in ("dims", "tokens", "parameters"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("licence", "state"):
        table.add_column(title, no_wrap=True)
    for task in dict.fromkeys(row["task_type"] for row in rows):
        table.add_row(task, style="bold")
        for row in (x for x in rows if x["task_type"] == task):
            size = f", {_bytes(row['size'])}" if row["size"] else ""
            numbers = (
                str(row["dimensions"] or ""),
                str(row["max_tokens"]),
                f"{row['parameters_millions']} M",
            )
            table.add_row(f"  {row['id']}", *numbers, row["licence"], f"{row['state']}{size}")
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 130)
    console.print(table)
    print("\nElastic's names")
    for row in rows:
        for name in row["serves"]:
            print(f"  {name} is {row['id']}")
        for name in row["stands_in_for"]:
            print(f"  {name} is answered by {row['id']}, a stand-in")


def describe(config: "Config") -> list[dict[str, Any]]:
    """A row a model, as ``--json`` prints it. ``size`` is in bytes on this disk, None where there is none."""
    from inferd.local.shelf import locate, manifest

    names = answered_names(config)
    rows = []
    for model in known_models(config):
        found = None if model.bundled else manifest(model, config.models_path)
        origin = config.models.repository.get(model.id)
        whole = found is not None and locate(model, config.models_path, origin) is not None
        rows.append(
            {
                "id": model.id,
                "task_type": str(model.task),
                "recipe": str(model.recipe),
                "dimensions": model.dimensions,
                "max_tokens": model.max_tokens,
                "parameters_millions": model.parameters,
                "languages": list(model.languages),
                "licence": model.licence,
                "repository": origin or model.repository,
                "state": _state(model, found is not None, whole),
                "size": sum(file.size for file in found.files) if found is not None and whole else None,
                "commit": found.commit if found else None,
                "serves": sorted(name for name, (id, true) in names.items() if id == model.id and true),
                "stands_in_for": sorted(
                    name for name, (id, true) in names.items() if id == model.id and not true
                ),
            }
        )
    return rows


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The catalogue as docs/models.md prints it; a test compares the two."""
    from inferd.local.catalogue import MODELS

    lines = [
        "| model | task | dimensions | tokens | parameters | before a query · before a passage | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, model in zip(rows, MODELS, strict=False):
        prefixes = [x.replace("\n", "⏎") for x in (model.query_prefix, model.passage_prefix)]
        shown = " · ".join(f"`{x}`" if x else "–" for x in prefixes) if any(prefixes) else ""
        shown = "query without a model" if model.query_idf else shown
        cells = (
            f"`{row['id']}`",
            row["task_type"],
            str(row["dimensions"] or ""),
            str(row["max_tokens"]),
            f"{row['parameters_millions']} M",
            shown,
            row["licence"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def answered_names(config: "Config") -> Mapping[str, tuple[str, bool]]:
    """By Elastic's name and by alias: the model that answers, and whether it is the true one."""
    from inferd.local.catalogue import STAND_INS, TRUE_NAMES
    from inferd.local.names import meaning

    models = config.models
    found = {
        name: meaning(name, models.aliases, models.repository)
        for name in (*TRUE_NAMES, *STAND_INS, *models.aliases)
    }
    return {name: (x.model.id, not x.stand_in) for name, x in found.items() if x is not None}


def known_models(config: "Config") -> tuple["Model", ...]:
    """The catalogue, then what models.repository adds to it."""
    from inferd.local.catalogue import MODELS
    from inferd.local.names import named

    repository = config.models.repository
    own = [named(id, repository) for id in repository]
    return (*MODELS, *(x for x in own if x is not None and x not in MODELS))


def _state(model: "Model", known: bool, whole: bool) -> str:
    if model.bundled:
        return "bundled"
    return "present" if whole else "damaged" if known else "absent"


@models_app.command("pull")
def pull_models(
    ids: Ids,
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    mirror: Annotated[
        str | None, typer.Option(help="Address of a mirror of the hub (default: models.mirror, HF_ENDPOINT).")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: only say whether the models are here.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is here already.")] = False,
    json: Json = False,
) -> None:
    """Fetch models from the hub, a mirror or a copy of your own (models.repository).

    What was interrupted goes on where it stopped; every file is checked; a model is here whole or not at all.

    Examples:

      inferd models pull intfloat/multilingual-e5-small

      inferd models pull BAAI/bge-reranker-base --mirror https://hub.example.com
    """
    from inferd.local import fetch

    settings = _load(config, models_dir, mirror=mirror, offline=offline or None)
    models, places = _models(ids, settings), {}
    with _shown() as progress:
        for model in models:
            if model.bundled:
                places[model.id] = "bundled"
                continue
            places[model.id] = str(fetch.pull(model, _options(settings, force), progress))
    if json:
        _print(places)
    else:
        for id, place in places.items():
            print(f"{id} comes with inferd" if place == "bundled" else f"{id} is in {place}")


@models_app.command("verify")
def verify_models(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Models; all that are here when none is named.")
    ] = None,
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> None:
    """Read every byte of the models that are here again and compare it with what was checked when it came, or was packaged.

    Exit code 1 when anything is wrong.

    Example: inferd models verify
    """
    from inferd.local.shelf import manifest, verify

    settings = _load(config, models_dir)
    if ids:
        models = _models(ids, settings)
    else:
        models = [x for x in known_models(settings) if x.bundled or manifest(x, settings.models_path)]
    with _shown() as progress:
        faults = {model.id: list(verify(model, settings.models_path, progress)) for model in models}
    if json:
        _print(faults)
    else:
        for id, found in faults.items():
            print(f"{id}: {'; '.join(found) or 'ok'}")
    if any(faults.values()):
        raise typer.Exit(1)


@models_app.command("bundle")
def bundle_models(
    ids: Ids,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> None:
    """Write models into one file, to carry to a machine without a network.

    Example: inferd models bundle intfloat/multilingual-e5-small -o e5.bundle
    """
    from inferd.local.bundles import bundle

    settings = _load(config, models_dir)
    models = _models(ids, settings)
    with _shown() as progress:
        bundle(models, output, settings.models_path, progress)
    size = output.stat().st_size
    if json:
        _print({"file": str(output), "size": size, "models": [x.id for x in models]})
    else:
        print(f"{output} holds {', '.join(x.id for x in models)} ({_bytes(size)})")


@models_app.command("import")
def import_models(
    file: Annotated[Path, typer.Argument(help="A file that [bold]inferd models bundle[/bold] wrote.")],
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    json: Json = False,
) -> None:
    """Bring the models of a bundle here. Nothing of the file is trusted; everything is checked.

    Example: inferd models import e5.bundle
    """
    from inferd.local.bundles import unbundle

    settings = _load(config, models_dir)
    with _shown() as progress:
        ids = unbundle(file, settings.models_path, progress, repository=settings.models.repository)
    if json:
        _print({"models": ids})
    else:
        for id in ids:
            print(f"{id} is here")


def _load(
    file: Path | None, models_dir: Path | None, *, mirror: str | None = None, offline: bool | None = None
) -> "Config":
    from inferd.config import load

    models = {"dir": models_dir and str(models_dir), "mirror": mirror, "offline": offline}
    return load(str(file) if file else None, {"models": {k: v for k, v in models.items() if v is not None}})


def _options(config: "Config", force: bool) -> "Options":
    from inferd.local.fetch import Options

    models = config.models
    return Options(
        models_dir=config.models_path,
        offline=models.offline,
        mirror=models.mirror,
        repository=models.repository,
        token=models.token,
        force=force,
    )


def _models(ids: Sequence[str], config: "Config") -> list["Model"]:
    """The rows of these names, Elastic's among them; a wrong name is wrong usage."""
    from inferd.local.names import meaning

    models = []
    for id in ids:
        found = meaning(id, config.models.aliases, config.models.repository)
        if found is None:
            close = get_close_matches(id, [x.id for x in known_models(config)], n=1, cutoff=0.4)
            hint = f" Did you mean [{close[0]}]?" if close else ""
            raise typer.BadParameter(f"There is no model [{id}].{hint} See: inferd models list")
        models.append(found.model)
    return models


def _print(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _bytes(size: int) -> str:
    for unit, width in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= width:
            return f"{size / width:.1f} {unit}"
    return f"{size} B"


_WORDS = {
    "wait": "waiting for another process",
    "download": "download",
    "copy": "copy",
    "check": "check",
    "build": "write graph",
}


@contextmanager
def _shown() -> Iterator["Progress"]:
    """Progress bars on standard error; where that is no terminal, one line when a file is done."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[tuple[str, str, str], Any] = {}

        def show(step: "Step") -> None:
            key = (step.model, step.file, step.phase)
            if key not in tasks:
                tasks[key] = bars.add_task(
                    f"{_WORDS[step.phase]} {step.file or step.model}", total=step.total or None
                )
            bars.update(tasks[key], completed=step.done)

        yield show


def _line(step: "Step") -> None:
    if step.phase in ("download", "copy") and step.done == step.total:
        print(f"{step.model}: {step.file} ({_bytes(step.total)})", file=sys.stderr)
