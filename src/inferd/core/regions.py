"""The region policy (api.md 4.7): one for the whole server, kept and shown. Moments are milliseconds since 1970."""

from typing import Any

from msgspec import Struct


class RegionPolicy(Struct, frozen=True, kw_only=True):
    """``policy`` is the member ``region_policy`` as it was put; ``updated_*`` appear from the second PUT on."""

    policy: dict[str, Any]
    created_at: int
    created_by: str | None = None
    updated_at: int | None = None
    updated_by: str | None = None
    version: int = 0
