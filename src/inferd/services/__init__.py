"""One module a service; each exports ``SERVICE`` and is found by looking. Adding one edits nothing else."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from inferd.core.service import Service


@cache
def services() -> Mapping[str, Service]:
    """Every service by its name, sorted; aliases are not keys (see ``find``)."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        service = importlib.import_module(f"{__name__}.{module.name}").SERVICE
        found[service.name] = service
    return MappingProxyType(dict(sorted(found.items())))


@cache
def _aliases() -> Mapping[str, Service]:
    return {alias: service for service in services().values() for alias in service.aliases}


def find(name: str) -> Service | None:
    """A service by name or alias, matched exactly."""
    return services().get(name) or _aliases().get(name)
