"""``_security``: users, roles and API keys over HTTP, in Elasticsearch's dialect (api.md 12.5)."""

from typing import Any

from msgspec.structs import replace

from inferd.actions.accounts import Accounts, KeyFilter, has_privileges, shown_key
from inferd.api.elastic import bodies, render
from inferd.api.elastic.params import Params, parse_duration
from inferd.api.guard import Guard
from inferd.api.http import Request, Response
from inferd.errors import IllegalArgument, InvalidRequest, NotFound
from inferd.security.principal import Principal

MAX_BODY = 1024 * 1024
"""Bytes of a user, a role or a key."""


class Security:
    """Handlers. ``accounts`` None: security is off, and every route says so."""

    def __init__(self, accounts: Accounts | None, guard: Guard) -> None:
        self._accounts = accounts
        self.guard = guard

    @property
    def accounts(self) -> Accounts:
        if self._accounts is None:
            raise IllegalArgument("security is off on this server: there are no users, roles and API keys")
        return self._accounts

    # Users

    async def authenticate(self, request: Request) -> Response:
        Params(request).finish()
        return await render.reply(request, self.accounts.who(request.principal))

    async def put_user(self, request: Request) -> Response:
        _refreshing(Params(request))
        accounts, name = self.accounts, request.path_params["name"]
        self.guard.authorise(request)
        created = await accounts.put_user(name, await _body(request))
        self.guard.audit(request, f"user/{name}", _made(created))
        return await render.reply(request, {"created": created})

    async def get_user(self, request: Request) -> Response:
        params = Params(request)
        params.boolean("with_profile_uid")
        params.finish()
        accounts = self.accounts
        self.guard.authorise(request)
        found = accounts.users(_names(request))
        return await render.reply(request, found, status=_status(request, found))

    async def delete_user(self, request: Request) -> Response:
        _refreshing(Params(request))
        accounts, name = self.accounts, request.path_params["name"]
        self.guard.authorise(request)
        found = await accounts.delete_user(name)
        if found:
            self.guard.audit(request, f"user/{name}", "deleted")
        return await render.reply(request, {"found": found}, status=200 if found else 404)

    async def change_password(self, request: Request) -> Response:
        """One's own is everyone's right, but not a key's: a key does less than its owner."""
        _refreshing(Params(request))
        accounts, principal = self.accounts, _principal(request)
        name = request.path_params.get("name", principal.username)
        if name != principal.username or principal.realm_type != "native":
            self.guard.authorise(request)
        await accounts.change_password(name, await _body(request))
        self.guard.audit(request, f"user/{name}", "password changed")
        return await render.reply(request, {})

    async def enable_user(self, request: Request) -> Response:
        return await self._enable(request, True)

    async def disable_user(self, request: Request) -> Response:
        return await self._enable(request, False)

    async def _enable(self, request: Request, enabled: bool) -> Response:
        _refreshing(Params(request))
        accounts, name = self.accounts, request.path_params["name"]
        self.guard.authorise(request)
        await accounts.enable(name, enabled)
        self.guard.audit(request, f"user/{name}", "enabled" if enabled else "disabled")
        return await render.reply(request, {})

    async def has_privileges(self, request: Request) -> Response:
        """Everyone's own; another user's for those who may read users."""
        Params(request).finish()
        accounts, asked = self.accounts, _principal(request)
        name = request.path_params.get("name", asked.username)
        if name != asked.username:
            self.guard.authorise(request)
            user = accounts.identities.users.get(name)
            if user is None:
                raise NotFound(f"user [{name}] not found")
            asked = accounts.authenticator.principal(user)
        return await render.reply(request, has_privileges(asked, await _body(request)))

    # Roles

    async def put_role(self, request: Request) -> Response:
        _refreshing(Params(request))
        accounts, name = self.accounts, request.path_params["name"]
        self.guard.authorise(request)
        created = await accounts.put_role(name, await _body(request))
        self.guard.audit(request, f"role/{name}", _made(created))
        return await render.reply(request, {"role": {"created": created}})

    async def get_role(self, request: Request) -> Response:
        params = Params(request)
        params.boolean("include_implicit")
        params.finish()
        accounts = self.accounts
        self.guard.authorise(request)
        found = accounts.roles(_names(request))
        return await render.reply(request, found, status=_status(request, found))

    async def delete_role(self, request: Request) -> Response:
        _refreshing(Params(request))
        accounts, name = self.accounts, request.path_params["name"]
        self.guard.authorise(request)
        found = await accounts.delete_role(name)
        if found:
            self.guard.audit(request, f"role/{name}", "deleted")
        return await render.reply(request, {"found": found}, status=200 if found else 404)

    async def builtin_privileges(self, request: Request) -> Response:
        Params(request).finish()
        accounts = self.accounts
        self.guard.authorise(request)
        return await render.reply(request, accounts.privileges())

    # API keys

    async def create_key(self, request: Request) -> Response:
        _refreshing(Params(request))
        accounts = self.accounts
        self.guard.authorise(request)
        made = await accounts.create_key(_principal(request), await _body(request), _seconds)
        self.guard.audit(request, f"api_key/{made['id']}", "created")
        return await render.reply(request, made)

    async def get_keys(self, request: Request) -> Response:
        """Who may only see its own is shown no others (api.md 12.5)."""
        params = Params(request)
        owned, limits = params.boolean("owner"), params.boolean("with_limited_by")
        active = params.boolean("active_only")
        params.boolean("with_profile_uid")
        id = params.text("id")
        wanted = KeyFilter(
            ids=None if id is None else (id,),
            name=params.text("name"),
            username=params.text("username"),
            realm_name=params.text("realm_name"),
            active_only=active,
        )
        params.finish()
        _check_owner(owned, wanted)
        accounts, principal = self.accounts, _principal(request)
        self.guard.authorise(request)
        wide = principal.has("read_security") or principal.has("manage_api_key")
        if owned or not wide:
            wanted = _own(wanted, principal, wide=wide)
        found = [shown_key(key, limited_by=limits) for key in accounts.keys(wanted)]
        status = 404 if id is not None and not found else 200
        return await render.reply(request, {"api_keys": found}, status=status)

    async def invalidate_keys(self, request: Request) -> Response:
        """Who may only end its own has to ask for no others: silence would read as success."""
        Params(request).finish()
        accounts, principal = self.accounts, _principal(request)
        self.guard.authorise(request)
        wanted, owned = accounts.key_filter(await _body(request))
        _check_owner(owned, wanted)
        if not owned and wanted == KeyFilter():
            raise InvalidRequest("one of [ids], [name], [username], [realm_name] or [owner] must be given")
        wide = principal.has("manage_api_key")
        if not (owned or wide or _asks_for_own(wanted, principal)):
            raise self.guard.denied(request, "api_key")
        if owned or not wide:
            wanted = _own(wanted, principal, wide=wide)
        done = await accounts.invalidate_keys(wanted)
        for id in done["invalidated_api_keys"]:
            self.guard.audit(request, f"api_key/{id}", "invalidated")
        return await render.reply(request, done)

    async def update_key(self, request: Request) -> Response:
        Params(request).finish()
        accounts, id = self.accounts, request.path_params["id"]
        self.guard.authorise(request)
        body = await _body(request) if request.has_body else {}
        changed = await accounts.update_key(_principal(request), id, body, _seconds)
        if changed:
            self.guard.audit(request, f"api_key/{id}", "updated")
        return await render.reply(request, {"updated": changed})


def _principal(request: Request) -> Principal:
    principal: Principal = request.principal
    return principal


async def _body(request: Request) -> dict[str, Any]:
    request.limits = replace(request.limits, body=min(MAX_BODY, request.limits.body))
    return await bodies.settings(request)


def _refreshing(params: Params) -> None:
    """Every write here is visible when it is answered, whatever ``refresh`` says."""
    given = params.text("refresh")
    if given not in (None, "", "true", "false", "wait_for"):
        raise IllegalArgument(f"[refresh] must be one of [true, false, wait_for], found [{given}]")
    params.finish()


def _names(request: Request) -> list[str] | None:
    """The comma-separated names of the path; None: all."""
    listed = request.path_params.get("name")
    return None if listed is None else [name.strip() for name in listed.split(",")]


def _status(request: Request, found: dict[str, Any]) -> int:
    return 404 if "name" in request.path_params and not found else 200


def _made(created: bool) -> str:
    return "created" if created else "updated"


def _seconds(text: str) -> float:
    return parse_duration("expiration", text).seconds


def _check_owner(owned: bool, wanted: KeyFilter) -> None:
    if owned and (wanted.username is not None or wanted.realm_name is not None):
        raise InvalidRequest("[username] and [realm_name] say the same as [owner]: give one of them")


def _own(wanted: KeyFilter, principal: Principal, *, wide: bool) -> KeyFilter:
    """The caller's own keys; to a key without wider rights that is itself alone."""
    wanted = replace(wanted, owner=principal.username)
    if principal.api_key is None or wide:
        return wanted
    own = (principal.api_key.id,)
    return replace(wanted, ids=own if wanted.ids is None or own[0] in wanted.ids else ())


def _asks_for_own(wanted: KeyFilter, principal: Principal) -> bool:
    if principal.api_key is not None:
        return wanted.ids == (principal.api_key.id,)
    return wanted.username == principal.username
