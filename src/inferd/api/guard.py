"""Who is asking, and what they may do: where a request meets ``security/``."""

from collections.abc import Callable
from typing import Protocol

from inferd.api.http import Request

Visible = Callable[[str], bool]


class Guard(Protocol):
    """``authenticate`` sets ``request.principal`` or raises 401; ``authorise`` raises 403 by the route's action."""

    async def authenticate(self, request: Request) -> None: ...

    def authorise(self, request: Request, endpoint: str | None = None) -> None: ...

    def visible(self, request: Request) -> Visible:
        """Whether the caller may know of an endpoint."""
        ...

    def user(self, request: Request) -> str | None: ...

    def audit(self, request: Request, target: str, outcome: str) -> None:
        """Note a change that was made."""
        ...


class Open:
    """Security is off: everyone may do everything."""

    async def authenticate(self, request: Request) -> None:
        return None

    def authorise(self, request: Request, endpoint: str | None = None) -> None:
        return None

    def visible(self, request: Request) -> Visible:
        return _always

    def user(self, request: Request) -> str | None:
        return None

    def audit(self, request: Request, target: str, outcome: str) -> None:
        return None


def _always(id: str) -> bool:
    return True
