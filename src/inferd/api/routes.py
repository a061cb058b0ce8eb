"""Method, path, action, privilege: one screen (api.md section 4)."""

from typing import Literal

from inferd.api.elastic.handlers import Elastic
from inferd.api.http import Handler, Route

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
