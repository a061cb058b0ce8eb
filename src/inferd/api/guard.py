"""Who is asking, and what they may do: where a request meets ``security/``."""

from collections.abc import Callable
from typing import Protocol

from inferd.api.http import Request
from inferd.errors import SecurityError
from inferd.security.authentication import Authenticator, Origin
from inferd.security.principal import Principal

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


def origin(request: Request) -> Origin:
    return Origin(uri=request.uri, address=request.client or "", secure=request.secure)


class Secured:
    """Security is on: credentials on every request, the route's privileges on every action."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = authenticator

    async def authenticate(self, request: Request) -> None:
        request.principal = await self.authenticator.authenticate(
            request.header("authorization"), origin(request)
        )

    def authorise(self, request: Request, endpoint: str | None = None) -> None:
        """Raises 403 in the words of api.md 12.3."""
        principal: Principal = request.principal
        route = request.route
        if route is None:
            raise TypeError("authorisation needs a route")
        if not principal.allows(route.action, route.privileges, endpoint):
            raise forbidden(principal, route.action, route.privileges)

    def visible(self, request: Request) -> Visible:
        principal: Principal = request.principal
        route = request.route
        if route is None:
            return _always
        return lambda id: principal.allows(route.action, route.privileges, id)

    def user(self, request: Request) -> str | None:
        principal: Principal = request.principal
        return principal.username

    def audit(self, request: Request, target: str, outcome: str) -> None:
        return None


def forbidden(principal: Principal, action: str, privileges: tuple[str, ...]) -> SecurityError:
    return SecurityError(
        f"action [{action}] is unauthorized for {principal.shown}, this action is granted by the cluster privileges "
        f"[{','.join(privileges)}]"
    )
