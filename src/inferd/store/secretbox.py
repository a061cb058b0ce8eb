"""Secrets at rest: AES-256-GCM under a key that is not in the database.

The key is ``INFERD_SECRET_KEY`` or a key file (one base64 key a line, newest first, mode 0600; made at the first start).
A sealed value is a 12-byte random nonce, then ciphertext and tag; kind, owner, name and key id are authenticated with
it, so a row that was moved to another owner does not open. New values are sealed with the newest key; all keys open.
"""

import base64
import binascii
import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from inferd.core.secrets import Secret
from inferd.errors import StatusError, StorageError

_NONCE = 12
_KEY = 32
_SHORTEST = 16
_NO_KEY_FILE = (0, 0, 0)


class Key:
    """32 bytes and the short name that rows carry; the name says nothing about the bytes."""

    __slots__ = ("bytes", "cipher", "id")

    def __init__(self, material: bytes) -> None:
        self.bytes = material
        self.cipher = AESGCM(material)
        self.id = _derive(material, b"inferd key id").hex()[:16]


class Unreadable(Secret):
    """A stored secret that no key opens: whoever needs it gets a named error, everything else goes on."""

    __slots__ = ("_reason",)

    def __init__(self, reason: str) -> None:
        super().__init__("")
        self._reason = reason

    def reveal(self) -> NoReturn:
        raise StatusError(500, self._reason)


class SecretBox:
    """Seals and opens secrets. Made by ``of`` (keys from the environment) or ``at`` (a key file).

    A key file is read when the store opens and again whenever it changed, so that a running server follows a rotation.
    """

    def __init__(self, keys: Collection[Key] = (), path: Path | None = None) -> None:
        self._path = path
        self._seen = _NO_KEY_FILE
        self._extra = tuple(keys)
        self._keys = _by_id(keys)

    def __repr__(self) -> str:
        return f"SecretBox({', '.join(self._keys)})"

    @classmethod
    def of(cls, newest: Secret, *older: Secret) -> "SecretBox":
        """A box over given keys: base64 of 32 bytes is the key itself, any other text of ≥ 16 bytes derives one."""
        return cls([_key_from_text(secret) for secret in (newest, *older)])

    @classmethod
    def at(cls, path: Path) -> "SecretBox":
        """A box over a key file, which is read, or created, when the store opens."""
        return cls(path=path)

    def reading(self, older: "SecretBox") -> "SecretBox":
        """A box that seals like this one and also opens what ``older`` sealed."""
        older.refresh()
        return SecretBox([*self._extra, *older._keys.values()], self._path)

    def prepare(self, in_use: Collection[str]) -> None:
        """Reads the key file, or creates it when no row depends on a key. ``in_use``: the key ids of stored rows.

        Raises ``StorageError`` when the file is unsafe, unreadable, missing though needed, or holds other keys.
        """
        self.refresh()
        if self._path and self._seen == _NO_KEY_FILE and set(in_use) <= set(self._keys):
            _write(self._path, [Key(os.urandom(_KEY))], replace=False)
            self.refresh()
        self._check(in_use)

    def _check(self, in_use: Collection[str]) -> None:
        unknown = sorted(set(in_use) - set(self._keys))
        if not unknown:
            return
        if self._path and not self._path.exists():
            raise StorageError(
                f"the key file [{self._path}] is missing, and the store holds secrets sealed with it "
                f"(key {unknown[0]}): restore the file from your backup"
            )
        source = f"the key file [{self._path}]" if self._path else "INFERD_SECRET_KEY"
        raise StorageError(
            f"{source} does not open the stored secrets: they are sealed with key [{unknown[0]}], "
            f"given are [{', '.join(self._keys)}]"
        )

    @property
    def newest(self) -> Key:
        return next(iter(self._keys.values()))

    def knows(self, key_id: str) -> bool:
        """Whether rows under this key open; looks at the key file again before saying no."""
        if key_id not in self._keys:
            self.refresh()
        return key_id in self._keys

    def refresh(self) -> None:
        """Reads the key file if it changed since; a file that went away while we run changes nothing."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        except OSError as bad:
            raise StorageError(f"the key file [{self._path}] cannot be read: {bad.strerror}") from bad
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._keys = _by_id([*_read(self._path), *self._extra])
            self._seen = seen

    def seal(self, kind: str, owner: str, name: str, value: Any) -> tuple[str, bytes]:
        """The key id and the sealed bytes of a string, or of a JSON value whose strings are secrets."""
        key, nonce = self.newest, os.urandom(_NONCE)
        plain = msgspec.json.encode(value, enc_hook=_reveal)
        return key.id, nonce + key.cipher.encrypt(nonce, plain, _bound(kind, owner, name, key.id))

    def open(self, kind: str, owner: str, name: str, key_id: str, sealed: bytes) -> Any:
        """What was sealed, each string as a ``Secret``; ``Unreadable`` when no key opens it."""
        if self.knows(key_id):
            key = self._keys[key_id]
            with contextlib.suppress(InvalidTag, ValueError, TypeError):  # whatever a damaged row holds
                plain = key.cipher.decrypt(
                    sealed[:_NONCE], sealed[_NONCE:], _bound(kind, owner, name, key_id)
                )
                return _secret(msgspec.json.decode(plain))
        return Unreadable(
            f"The stored secret [{name}] of {kind} [{owner}] cannot be decrypted (key [{key_id}]): give it again"
        )

    @contextlib.contextmanager
    def rotating(self) -> Iterator[None]:
        """Holds the key file's directory, so that one rotation runs at a time; the kernel lets go of a killed one."""
        if self._path is None:
            yield
            return
        handle = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError("another rotation of the secrets is running") from None
            yield
        finally:
            os.close(handle)

    def renew(self) -> None:
        """First step of a rotation: a new key on top of the key file. A rotation that was interrupted is continued.

        Does nothing where there is no key file yet: the store makes one when it may.
        """
        self.refresh()
        if self._path and len(self._keys) == 1 and not self._extra:
            _write(self._path, [Key(os.urandom(_KEY)), *self._keys.values()])
            self.refresh()

    def retire(self) -> None:
        """Last step of a rotation, when every row is under the newest key: the others leave the key file."""
        self.refresh()
        if self._path and len(self._keys) > 1:
            _write(self._path, [self.newest])
            self.refresh()


def _by_id(keys: Collection[Key]) -> dict[str, Key]:
    return {key.id: key for key in keys}


def _derive(material: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=purpose).derive(material)


def _key_from_text(secret: Secret) -> Key:
    text = secret.reveal().strip()
    material = _base64_key(text)
    if material is None:
        raw = text.encode("utf-8", "surrogateescape")
        if len(raw) < _SHORTEST:
            raise StorageError(
                f"INFERD_SECRET_KEY is too short: [{len(raw)}] bytes, at least [{_SHORTEST}] are needed"
            )
        material = _derive(raw, b"inferd secrets")
    return Key(material)


def _base64_key(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == _KEY else None


def _bound(kind: str, owner: str, name: str, key_id: str) -> bytes:
    return msgspec.json.encode([kind, owner, name, key_id])


def _reveal(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"a secret holds a {type(value).__name__}")


def _secret(value: Any) -> Any:
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, dict):
        return {name: _secret(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_secret(inner) for inner in value]
    return value


def _read(path: Path) -> list[Key]:
    try:
        with path.open("rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            lines = source.read(1 << 16).decode("ascii", "replace").split()
    except OSError as bad:
        raise StorageError(f"the key file [{path}] cannot be read: {bad.strerror}") from bad
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StorageError(
            f"the key file [{path}] has mode [{stat.S_IMODE(mode):04o}]: others may read it; run: chmod 600 {path}"
        )
    keys = [_base64_key(line) for line in lines]
    if not keys or None in keys:
        raise StorageError(
            f"the key file [{path}] is damaged: it must hold base64 keys of {_KEY} bytes, one a line"
        )
    return [Key(key) for key in keys if key is not None]


def _write(path: Path, keys: list[Key], *, replace: bool = True) -> None:
    """Whole or not at all. Without ``replace`` the first of several writers wins and the others change nothing."""
    text = b"".join(base64.b64encode(key.bytes) + b"\n" for key in keys)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as target:
                target.write(text)
                target.flush()
                os.fsync(target.fileno())
            if replace:
                os.replace(draft, path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(draft, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
        _sync_directory(path.parent)
    except OSError as bad:
        raise StorageError(f"the key file [{path}] cannot be written: {bad.strerror}") from bad


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
