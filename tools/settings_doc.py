"""Writes the table of settings in docs/running.md from the structs of ``inferd/config.py`` and the texts under their fields.

python tools/settings_doc.py            rewrite the table
python tools/settings_doc.py --check    exit 1 when it differs (a test does the same)
"""

import ast
import inspect
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from inferd import config
from inferd.core.secrets import Secret

PAGE = Path(__file__).resolve().parent.parent / "docs" / "running.md"
BEGIN, END = "<!-- settings:begin -->", "<!-- settings:end -->"
NOT_SHOWN = ("environment",)
NAMED = {"services": ("services.<name>", config.ServiceConfig)}
"""Groups whose members have a name of the user's."""


def texts(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The string under each field of a class."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for row, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(row, ast.AnnAssign)
            and isinstance(row.target, ast.Name)
            and isinstance(below, ast.Expr)
        ):
            found[row.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def kind_of(wanted: Any) -> str:
    """What may be written there."""
    arguments = get_args(wanted)
    if get_origin(wanted) is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if hasattr(wanted, "__metadata__"):
        return kind_of(arguments[0])
    if type(None) in arguments:
        return kind_of(arguments[0])
    if wanted is Secret:
        return "text"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        dict: "map",
        tuple: "list",
    }
    return names[get_origin(wanted) or wanted]


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    if value in (None, "", {}, ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def rows(kind: type[msgspec.Struct], path: str = "") -> list[str]:
    """One a setting; those of a group after those beside it."""
    told = texts(kind)
    own, below = [], []
    for field in msgspec.structs.fields(kind):
        if field.name in NOT_SHOWN:
            continue
        if field.name in NAMED:
            group, inner = NAMED[field.name]
            below += rows(inner, f"{group}.")
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            below += rows(field.type, f"{path}{field.name}.")
        else:
            text = told[field.name].replace("|", "\\|").replace("``", "`")
            own.append(f"| `{path}{field.name}` | {kind_of(field.type)} | {shown_default(field)} | {text} |")
    return own + below


def table() -> str:
    return "\n".join(
        ["| setting | kind | default | what |", "| --- | --- | --- | --- |", *rows(config.Config)]
    )


def page(old: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    old = PAGE.read_text()
    new = page(old)
    if "--check" in sys.argv:
        return int(old != new)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
