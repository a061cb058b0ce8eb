"""The region policy (api.md 4.7): stored and shown. inferd calls no hosted Elastic regions, so it denies nothing by itself."""

import time
from typing import Any

from inferd.actions.house import House
from inferd.core.regions import RegionPolicy
from inferd.errors import NotFound, StatusError

_NONE = "No region policy is configured for this deployment"


def get(house: House) -> RegionPolicy:
    policy = house.store.region_policy()
    if policy is None:
        raise NotFound(_NONE)
    return policy


async def put(house: House, policy: dict[str, Any], user: str | None) -> RegionPolicy:
    """Stores the policy; a lost race is a 409."""
    now = time.time_ns() // 1_000_000
    before = house.store.region_policy()
    if before is None:
        fresh = RegionPolicy(policy=policy, created_at=now, created_by=user)
        return await house.store.put_region_policy(fresh, 0)
    changed = RegionPolicy(
        policy=policy,
        created_at=before.created_at,
        created_by=before.created_by,
        updated_at=now,
        updated_by=user,
    )
    return await house.store.put_region_policy(changed, before.version)


async def delete(house: House) -> None:
    if not await house.store.delete_region_policy():
        raise NotFound(_NONE)


def present(policy: RegionPolicy) -> dict[str, Any]:
    shown: dict[str, Any] = {"region_policy": policy.policy, "created_at": moment(policy.created_at)}
    if policy.created_by is not None:
        shown["created_by"] = policy.created_by
    if policy.updated_at is not None:
        shown["updated_at"] = moment(policy.updated_at)
    if policy.updated_by is not None:
        shown["updated_by"] = policy.updated_by
    return shown


def moment(milliseconds: int) -> str:
    """``2026-07-13T12:00:00.000Z``"""
    seconds, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}Z"


def ccm_forbidden() -> StatusError:
    """Cloud connected mode needs Elastic's cloud (api.md 4.8)."""
    return StatusError(403, "Cloud Connected Mode configuration is not permitted for this environment")
