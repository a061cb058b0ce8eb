"""What inferd must not forget: endpoints with their secrets, the region policy, users, roles, API keys."""

from inferd.store.rotation import rotate
from inferd.store.secretbox import SecretBox
from inferd.store.store import Store

__all__ = ["SecretBox", "Store", "rotate"]
