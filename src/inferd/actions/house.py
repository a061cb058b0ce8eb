"""What every action needs, handed over by ``api/app.py``."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from inferd.config import Config
from inferd.core.service import Service
from inferd.local.host import Host
from inferd.local.lexicon import Lexicon
from inferd.store import Store
from inferd.upstream.client import Upstream


class House(Struct, kw_only=True, eq=False):
    config: Config
    store: Store
    services: Mapping[str, Service]
    upstream: Upstream
    host: Host
    lexicon: Lexicon
    node_id: str = ""
    cluster_id: str = ""

    def service(self, name: str) -> Service | None:
        """By name or alias."""
        found = self.services.get(name)
        if found is None:
            found = next((s for s in self.services.values() if name in s.aliases), None)
        return found


class Deadline(Struct, frozen=True):
    """A point of the loop's clock, and the duration as the caller wrote it (for messages)."""

    at: float
    text: str

    @classmethod
    def after(cls, seconds: float, text: str | None = None) -> "Deadline":
        shown = text if text is not None else f"{seconds:g}s"
        return cls(asyncio.get_running_loop().time() + seconds, shown)
