"""Writes docs/services.md from the service modules, their tests and the contract's own list of what is confirmed.

python tools/services_doc.py            rewrite the page
python tools/services_doc.py --check    exit 1 when it differs (a test does the same)
"""

import json
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "services.md"
sys.path.insert(0, str(ROOT))

from inferd.core.service import Service  # noqa: E402  (the tests are found through the path set above)
from inferd.core.settings import Setting  # noqa: E402
from inferd.core.tasks import TaskType  # noqa: E402
from inferd.services import services  # noqa: E402

FACTS: dict[str, Any] = json.loads((ROOT / "tests" / "contract" / "services.json").read_text())

HEAD = """# Services

This page is written by `python tools/services_doc.py` from the service modules, their tests and the contract's list of what is confirmed; a test
fails when it is out of date.

An endpoint definition that works in Elasticsearch works here unchanged. Beyond Elasticsearch, for every service: proxies, certificates and an egress
policy ([outbound network](outbound.md)), a `base_url` by configuration, inputs above the provider's limit per request are split and
rejoined, `Retry-After` is honoured within the deadline.

## Conformance

Each cell names how many cases the test suite runs: `request` the exact outbound request, `reply` the mapping of the answer, `stream` events
(whole, cut at every byte, ended in the middle), `errors` the service's own refusals and answers without what they must hold. Every case is besides
tried with twelve statuses from 400 to 529, garbage, truncated JSON, an empty body, a redirect, a broken connection and a planted secret, every service
with a time-out, a slow drip and a huge body. The last column is what the contract's authors could not confirm, for all tasks of the service; everything
else is confirmed. Those places are written so that they are easy to change.

| service | task | request | reply | stream | errors | not confirmed |
| --- | --- | --- | --- | --- | --- | --- |
"""


def cases_of(service: Service) -> list[Any]:
    """Test classes of one service."""
    import tests.services as package

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("test_"):
            continue
        for item in vars(import_module(f"tests.services.{module.name}")).values():
            owner = getattr(item, "service", None)
            if isinstance(item, type) and isinstance(owner, Service) and owner.name == service.name:
                found.append(item)
    return found


def counts(service: Service, task: TaskType) -> tuple[int, int, int, int]:
    """Cases that check the request, the reply, a stream, a refusal."""
    request = reply = stream = errors = 0
    for test in cases_of(service):
        for case in getattr(test, "cases", ()):
            if case.task is task:
                request += case.request is not None or case.stream_request is not None
                reply += case.reply is not None
                stream += case.stream is not None
        for row in (*getattr(test, "refusals", ()), *getattr(test, "replies", ())):
            errors += row.task is task
    return request, reply, stream, errors


def rows(service: Service) -> list[str]:
    fact = FACTS.get(service.name) or FACTS.get(
        {"hugging_face_elser": "hugging_face"}.get(service.name, ""), {}
    )
    doubt = fact.get("certainty", {}).get("unconfirmed", "all of it: the contract does not know this service")
    doubt = str(doubt).replace("|", "\\|")
    out = []
    for n, (task, call) in enumerate(service.calls.items()):
        note = doubt if n == 0 else ""
        if call.run is not None:
            out.append(f"| `{service.name}` | {task} | local | local | — | local | {note} |")
            continue
        request, reply, stream, errors = counts(service, task)
        shown = str(stream) if call.chunks is not None else "—"
        whole = str(reply) if call.reply is not None else "—"
        out.append(f"| `{service.name}` | {task} | {request} | {whole} | {shown} | {errors} | {note} |")
    if not service.calls:
        out.append(f"| `{service.name}` | — | — | — | — | — | listed; a PUT is refused |")
    return out


def settings(title: str, found: tuple[Setting, ...], service: Service) -> list[str]:
    shown = [row for row in found if not row.refused]
    if not shown:
        return []
    lines = [
        f"{title}",
        "",
        "| setting | type | required | default | tasks | notes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in shown:
        tasks = "all" if row.tasks is None else ", ".join(t for t in service.calls if t in row.tasks)
        notes = [word for word, on in (("secret", row.secret), ("updatable", row.can_update)) if on]
        if row.choices:
            notes.append(" \\| ".join(f"`{c}`" for c in sorted(row.choices)))
        lines.append(
            f"| `{row.key}` | {row.kind} | {'yes' if row.required else 'no'} | {default(row)} | {tasks} | {', '.join(notes)} |"
        )
    return [*lines, ""]


def default(row: Setting) -> str:
    if row.default is None or callable(row.default):
        return "—"
    if isinstance(row.default, dict):
        return ", ".join(f"{task}: {value}" for task, value in row.default.items())
    return f"`{row.default}`"


def section(service: Service) -> list[str]:
    lines = [f"## {service.title}", "", f'`"service": "{service.name}"`']
    if service.aliases:
        lines[-1] += f" (also {', '.join(f'`{alias}`' for alias in service.aliases)})"
    lines.append("")
    doc = sys.modules[type_module(service)].__doc__ or ""
    lines += [line for line in doc.strip().splitlines() if "contract:" not in line.lower() or "http" in line]
    lines.append("")
    if service.unavailable is not None:
        return [*lines, service.unavailable, ""]
    lines += settings("Service settings:", service.settings, service)
    shared: dict[str, Setting] = {}
    for call in service.calls.values():
        for row in call.options:
            shared.setdefault(row.key, row)
    for key, row in shared.items():
        with_it = frozenset(t for t, c in service.calls.items() if any(o.key == key for o in c.options))
        if len(with_it) < len(service.calls):
            from msgspec.structs import replace

            shared[key] = replace(row, tasks=with_it)
    lines += settings("Task settings:", tuple(shared.values()), service)
    return lines


def type_module(service: Service) -> str:
    import inferd.services as package

    for module in pkgutil.iter_modules(package.__path__):
        name = f"inferd.services.{module.name}"
        if import_module(name).SERVICE is service:
            return name
    raise LookupError(service.name)


def page() -> str:
    found = services().values()
    table = [row for service in found for row in rows(service)]
    body = [line for service in found for line in section(service)]
    return HEAD + "\n".join(table) + "\n\n" + "\n".join(body).rstrip() + "\n"


def main() -> None:
    text = page()
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text() == text else f"{PAGE.name} is out of date: python tools/services_doc.py"
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
