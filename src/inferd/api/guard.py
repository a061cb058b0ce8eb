"""Who is asking, and what they may do: where a request meets ``security/``."""

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from inferd.api.http import Request, Route
from inferd.errors import IllegalArgument, InferdError, SecurityError
from inferd.security.audit import AuditLog
from inferd.security.authentication import Authenticator, Origin, claimed
from inferd.security.principal import Principal

Visible = Callable[[str], bool]


class Guard(Protocol):
    """``authenticate`` sets ``request.principal`` or raises 401; ``authorise`` raises 403 by the route's action.

    Without an endpoint ``authorise`` asks for the right to do it to the whole house.
    """

    async def authenticate(self, request: Request) -> None: ...

    def authorise(self, request: Request, endpoint: str | None = None) -> None: ...

    def authorise_list(self, request: Request) -> None:
        """For lists that leave out what is not ``visible``: the right to see one endpoint is enough."""
        ...

    def denied(self, request: Request, target: str | None = None) -> SecurityError:
        """The 403 to raise; it is in the audit log already."""
        ...

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

    def authorise_list(self, request: Request) -> None:
        return None

    def denied(self, request: Request, target: str | None = None) -> SecurityError:
        raise TypeError("nothing is denied where security is off")

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

    def __init__(
        self, authenticator: Authenticator, audit: AuditLog | None = None, *, note_success: bool = False
    ) -> None:
        self.authenticator = authenticator
        self._audit = audit
        self._note_success = note_success

    async def authenticate(self, request: Request) -> None:
        authorization = request.header("authorization")
        try:
            request.principal = await self.authenticator.authenticate(
                authorization, origin(request), request.client_certificate
            )
        except InferdError as refused:
            self._note(request, "authentication_failed", reason=_why(refused), **claimed(authorization))
            raise
        if request.header(RUN_AS) is not None:
            raise IllegalArgument(f"[{RUN_AS}] is not supported: authenticate as that user")
        if self._note_success:
            self._note(request, "authentication_success", **_who(request.principal))

    def authorise(self, request: Request, endpoint: str | None = None) -> None:
        """Raises 403 in the words of api.md 12.3."""
        principal, route = _asked(request)
        if not principal.allows(route.action, route.privileges, endpoint):
            raise self.denied(request, endpoint)

    def authorise_list(self, request: Request) -> None:
        principal, route = _asked(request)
        if not principal.allows_some(route.action, route.privileges):
            raise self.denied(request)

    def denied(self, request: Request, target: str | None = None) -> SecurityError:
        principal, route = _asked(request)
        self._note(request, "access_denied", target=target, **_who(principal))
        return forbidden(principal, route.action, route.privileges)

    def visible(self, request: Request) -> Visible:
        principal, route = _asked(request)
        return lambda id: principal.allows(route.action, route.privileges, id)

    def user(self, request: Request) -> str | None:
        principal: Principal = request.principal
        return principal.username

    def audit(self, request: Request, target: str, outcome: str) -> None:
        self._note(request, "change", target=target, outcome=outcome, **_who(request.principal))

    def _note(self, request: Request, event: str, **facts: Any) -> None:
        """Of the path only its row in the route table: what somebody wrote into a path may be a secret."""
        if self._audit is None:
            return
        route = request.route
        self._audit.note(
            event,
            **facts,
            action=(route.action or None) if route else None,
            method=request.method,
            route=route.template if route else None,
            address=request.client,
            request_id=_request_id(request),
        )


RUN_AS = "es-security-runas-user"


def _asked(request: Request) -> tuple[Principal, Route]:
    if request.route is None:
        raise TypeError("authorisation needs a route")
    return request.principal, request.route


def _who(principal: Principal) -> dict[str, Any]:
    key = principal.api_key
    return {
        "user": principal.username,
        "realm": principal.realm,
        "api_key_id": None if key is None else key.id,
    }


def _why(refused: InferdError) -> str:
    """Without the address that was asked for."""
    exact = refused.members.get("additional_unsuccessful_credentials")
    return str(exact or refused.reason.partition(" for REST request")[0])


def _request_id(request: Request) -> str:
    """The client's own (X-Opaque-Id), or one for all lines of this request."""
    known: str | None = request.opaque_id or request.scope.get("inferd.request_id")
    if known is None:
        known = request.scope["inferd.request_id"] = secrets.token_hex(8)
    return known


def forbidden(principal: Principal, action: str, privileges: tuple[str, ...]) -> SecurityError:
    return SecurityError(
        f"action [{action}] is unauthorized for {principal.shown}, this action is granted by the cluster privileges "
        f"[{','.join(privileges)}]"
    )
