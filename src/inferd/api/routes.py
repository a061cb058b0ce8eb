"""Method, path, action, privilege: one screen (api.md section 4)."""

from typing import Literal

from inferd.api.elastic.handlers import Elastic
from inferd.api.http import Handler, Route
from inferd.api.security import Security
from inferd.security.privileges import granting

MONITOR = ("monitor_inference", "manage_inference", "monitor", "manage", "all")
MANAGE = ("manage_inference", "manage", "all")
MAIN = ("monitor", "manage", "all")

_READ = "cluster:monitor/xpack/inference/"
_WRITE = "cluster:admin/xpack/inference/"

GET_ACTION = f"{_READ}get"
INFER_ACTION = f"{_READ}post"

READ = (GET_ACTION, MONITOR)
INFER = (INFER_ACTION, MONITOR)
"""Action and privileges of the other dialects' routes."""


def _row(
    method: str,
    template: str,
    handler: Handler,
    action: str,
    *params: str,
    body: Literal["none", "required"] = "none",
) -> Route:
    privileges = (
        MAIN if action == "cluster:monitor/main" else MANAGE if action.startswith(_WRITE) else MONITOR
    )
    return Route(
        method=method,
        template=template,
        handler=handler,
        action=action,
        privileges=privileges,
        params=frozenset(params),
        body=body,
    )


def elastic(h: Elastic) -> list[Route]:
    """Routes 1 to 23 and the root."""
    return [
        _row("GET", "/", h.root, "cluster:monitor/main"),
        _row("HEAD", "/", h.root, "cluster:monitor/main"),
        _row("GET", "/_inference", h.list_all, GET_ACTION),
        _row("GET", "/_inference/_all", h.list_all, GET_ACTION),
        _row("GET", "/_inference/{id}", h.get, GET_ACTION),
        _row("GET", "/_inference/{task}/{id}", h.get, GET_ACTION),
        _row("PUT", "/_inference/{id}", h.put, f"{_WRITE}put", "timeout", body="required"),
        _row("PUT", "/_inference/{task}/{id}", h.put, f"{_WRITE}put", "timeout", body="required"),
        _row("PUT", "/_inference/{id}/_update", h.update, f"{_WRITE}update", "timeout", "master_timeout", body="required"),
        _row("PUT", "/_inference/{task}/{id}/_update", h.update, f"{_WRITE}update", "timeout", "master_timeout", body="required"),
        _row("DELETE", "/_inference/{id}", h.delete, f"{_WRITE}delete", "dry_run", "force"),
        _row("DELETE", "/_inference/{task}/{id}", h.delete, f"{_WRITE}delete", "dry_run", "force"),
        _row("POST", "/_inference/{id}", h.infer, INFER_ACTION, "timeout", body="required"),
        _row("POST", "/_inference/{task}/{id}", h.infer, INFER_ACTION, "timeout", body="required"),
        _row("POST", "/_inference/{id}/_stream", h.stream, INFER_ACTION, "timeout", body="required"),
        _row("POST", "/_inference/{task}/{id}/_stream", h.stream, INFER_ACTION, "timeout", body="required"),
        _row("GET", "/_inference/_services", h.services, f"{_READ}services/get"),
        _row("GET", "/_inference/_services/{task}", h.services, f"{_READ}services/get"),
        _row("GET", "/_inference/.diagnostics", h.diagnostics, f"{_READ}diagnostics/get"),
        _row("GET", "/_inference/_region_policy", h.get_region_policy, f"{_READ}region_policy/get"),
        _row("PUT", "/_inference/_region_policy", h.put_region_policy, f"{_WRITE}region_policy/put", "force", body="required"),
        _row("DELETE", "/_inference/_region_policy", h.delete_region_policy, f"{_WRITE}region_policy/delete"),
        _row("GET", "/_inference/_ccm", h.ccm, f"{_READ}ccm/get"),
        _row("PUT", "/_inference/_ccm", h.ccm, f"{_WRITE}ccm/put", "timeout", "master_timeout", body="required"),
        _row("DELETE", "/_inference/_ccm", h.ccm, f"{_WRITE}ccm/delete", "timeout", "master_timeout"),
    ]  # fmt: skip


_SECURITY = "cluster:admin/xpack/security/"
_MANAGE_USERS = granting("manage_security")
_SEE_USERS = granting("read_security")
_OWN_KEYS = granting("manage_own_api_key")
_SEE_KEYS = ("manage_own_api_key", "manage_api_key", "read_security", "manage_security", "all")


def security(h: Security) -> list[Route]:
    """api.md 12.5. Whose own password, privileges or keys they are, the handlers look at."""

    def row(
        methods: str,
        template: str,
        handler: Handler,
        action: str,
        privileges: tuple[str, ...],
        *params: str,
        body: Literal["none", "optional", "required"] = "none",
    ) -> list[Route]:
        return [
            Route(
                method=method,
                template=f"/_security/{template}",
                handler=handler,
                action=f"{_SECURITY}{action}",
                privileges=privileges,
                params=frozenset(params),
                body=body,
            )
            for method in methods.split()
        ]

    keys = (
        "id",
        "name",
        "owner",
        "realm_name",
        "username",
        "with_limited_by",
        "active_only",
        "with_profile_uid",
    )
    return [
        *row("GET", "_authenticate", h.authenticate, "user/authenticate", ()),
        *row("GET", "user", h.get_user, "user/get", _SEE_USERS, "with_profile_uid"),
        *row("GET", "user/{name}", h.get_user, "user/get", _SEE_USERS, "with_profile_uid"),
        *row("PUT POST", "user/{name}", h.put_user, "user/put", _MANAGE_USERS, "refresh", body="required"),
        *row("DELETE", "user/{name}", h.delete_user, "user/delete", _MANAGE_USERS, "refresh"),
        *row("PUT POST", "user/_password", h.change_password, "user/change_password", _MANAGE_USERS, "refresh", body="required"),
        *row("PUT POST", "user/{name}/_password", h.change_password, "user/change_password", _MANAGE_USERS, "refresh", body="required"),
        *row("PUT POST", "user/{name}/_enable", h.enable_user, "user/set_enabled", _MANAGE_USERS, "refresh"),
        *row("PUT POST", "user/{name}/_disable", h.disable_user, "user/set_enabled", _MANAGE_USERS, "refresh"),
        *row("GET POST", "user/_has_privileges", h.has_privileges, "user/has_privileges", _SEE_USERS, body="required"),
        *row("GET POST", "user/{name}/_has_privileges", h.has_privileges, "user/has_privileges", _SEE_USERS, body="required"),
        *row("GET", "role", h.get_role, "role/get", _SEE_USERS, "include_implicit"),
        *row("GET", "role/{name}", h.get_role, "role/get", _SEE_USERS, "include_implicit"),
        *row("PUT POST", "role/{name}", h.put_role, "role/put", _MANAGE_USERS, "refresh", body="required"),
        *row("DELETE", "role/{name}", h.delete_role, "role/delete", _MANAGE_USERS, "refresh"),
        *row("GET", "privilege/_builtin", h.builtin_privileges, "privilege/builtin/get", _SEE_USERS),
        *row("PUT POST", "api_key", h.create_key, "api_key/create", _OWN_KEYS, "refresh", body="required"),
        *row("GET", "api_key", h.get_keys, "api_key/get", _SEE_KEYS, *keys),
        *row("DELETE", "api_key", h.invalidate_keys, "api_key/invalidate", _OWN_KEYS, body="required"),
        *row("PUT", "api_key/{id}", h.update_key, "api_key/update", _OWN_KEYS, body="optional"),
    ]  # fmt: skip
