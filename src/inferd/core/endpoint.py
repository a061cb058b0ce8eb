"""An inference endpoint: an id, a task, a service and its settings; secrets apart."""

import re
from typing import Any

from msgspec import Struct

from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.errors import InvalidRequest

_ID = re.compile(r"[a-z0-9](?:[a-z0-9_.\-]*[a-z0-9])?", re.ASCII)


class Endpoint(Struct, frozen=True, kw_only=True):
    """One endpoint as stored.

    ``settings`` and ``task_settings`` hold parsed values in output order; ``hidden`` holds facts that GET does not
    show (``dimensions_set_by_user``); ``version`` counts updates, for compare-and-set.
    """

    id: str
    task: TaskType
    service: str
    settings: dict[str, Any]
    task_settings: dict[str, Any] = {}
    chunking: dict[str, Any] | None = None
    secrets: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    metadata: dict[str, Any] | None = None
    version: int = 1

    def secret(self, key: str = "api_key") -> str | None:
        """The secret itself, for the one place that sends it."""
        value = self.secrets.get(key)
        return value.reveal() if isinstance(value, Secret) else value


def check_id(id: str) -> None:
    """api.md 5.2; only PUT and _update check."""
    if not _ID.fullmatch(id):
        raise InvalidRequest(
            f"Invalid inference_id; '{id}' can contain lowercase alphanumeric (a-z and 0-9), hyphens or "
            "underscores; must start and end with alphanumeric"
        )
