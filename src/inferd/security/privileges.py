"""Cluster privileges, what they imply, and the built-in roles (api.md 12.4), as far as they mean something here."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

_IMPLIES: Mapping[str, tuple[str, ...]] = {
    "all": ("manage", "manage_security"),
    "manage": ("monitor", "manage_inference", "manage_ml"),
    "monitor": ("monitor_inference", "monitor_ml"),
    "manage_inference": ("monitor_inference",),
    "manage_ml": ("monitor_ml",),
    "manage_security": ("read_security", "manage_api_key"),
    "manage_api_key": ("manage_own_api_key",),
    "monitor_inference": (),
    "monitor_ml": (),
    "read_security": (),
    "manage_own_api_key": (),
    "none": (),
}

CLUSTER = tuple(sorted(_IMPLIES))
"""What ``_security/privilege/_builtin`` lists."""

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "all": ("*",),
    "monitor": ("cluster:monitor/*",),
    "monitor_inference": (
        "cluster:monitor/xpack/inference*",
        "cluster:monitor/xpack/ml/trained_models/deployment/infer",
    ),
    "manage_inference": ("cluster:admin/xpack/inference/*",),
    "monitor_ml": ("cluster:monitor/xpack/ml/*",),
    "manage_ml": ("cluster:admin/xpack/ml/*",),
    "manage_security": ("cluster:admin/xpack/security/*",),
}
"""Which actions a privilege covers besides those of what it implies (api.md 12.4), for who asks about an action by name."""

INFERENCE = ("manage_inference", "monitor_inference")
"""What may be granted on endpoints by pattern."""


def closure(names: Iterable[str]) -> frozenset[str]:
    """These privileges and all that they imply; unknown names stay as they are (they grant nothing here)."""
    found: set[str] = set()
    todo = [name.lower() for name in names]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(_IMPLIES.get(name, ()))
    return frozenset(found)


def granting(name: str) -> tuple[str, ...]:
    """Every privilege that implies this one, itself first, the widest last."""
    wider = [other for other in _IMPLIES if other != name and name in closure((other,))]
    return (name, *sorted(wider, key=lambda other: (len(closure((other,))), other)))


def _role(description: str, *cluster: str) -> dict[str, Any]:
    return {
        "cluster": list(cluster),
        "indices": [],
        "applications": [],
        "run_as": [],
        "metadata": {"_reserved": True},
        "description": description,
    }


BUILT_IN: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "superuser": _role("Grants full access to everything.", "all"),
        "inference_admin": _role(
            "Grants access necessary to manage inference models and performing inference.", "manage_inference"
        ),
        "inference_user": _role("Grants access necessary to perform inference.", "monitor_inference"),
        "machine_learning_admin": _role("Grants access to manage trained models.", "manage_ml"),
        "machine_learning_user": _role("Grants access to see trained models.", "monitor_ml"),
        "monitoring_user": _role(
            "Grants access to what monitoring needs: the server's name and version.", "cluster:monitor/main"
        ),
        "viewer": _role("Grants nothing here: there are no indices to view."),
        "editor": _role("Grants nothing here: there are no indices to edit."),
    }
)
"""Cannot be written or deleted."""
