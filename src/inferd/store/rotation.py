"""``inferd rotate-secrets``: every stored secret under a new key, whatever moment it is killed at."""

import asyncio

from inferd.store.secretbox import SecretBox
from inferd.store.store import Store


async def rotate(url: str, new: SecretBox, old: SecretBox | None = None) -> int:
    """Seals all secrets anew and returns how many; running it again finishes what was interrupted.

    Without ``old``, ``new`` is the key file: a new key goes on top of it, the secrets follow in one transaction, then
    keys that nothing uses leave the file. Running servers follow: they read the file again. With ``old`` (the key was
    given by hand and is now another one) secrets go from the old key to the new one; servers are restarted with it.
    Raises ``StorageError``; 500 ``StatusError`` when a secret does not open, and then nothing has changed.
    """
    if old is not None:
        return await _reseal(url, await asyncio.to_thread(new.reading, old))
    with new.rotating():
        await asyncio.to_thread(new.renew)
        count = await _reseal(url, new)
        await asyncio.to_thread(new.retire)
    return count


async def _reseal(url: str, box: SecretBox) -> int:
    store = await Store.open(url, box)
    try:
        return await store.reseal()
    finally:
        await store.close()
