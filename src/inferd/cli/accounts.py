"""``inferd reset-password`` and ``inferd rotate-secrets``: on the data itself, whether a server runs or not."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferd.errors import InferdError

if TYPE_CHECKING:
    from inferd.config import Config
    from inferd.core.secrets import Secret

DataDir = Annotated[Path | None, typer.Option(help="Where the server keeps its data.")]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML file with settings.")]


def reset_password(
    user: Annotated[str, typer.Argument(help="User name, such as elastic.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the new password from standard input.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a user a new password; a generated one is printed, once.

    Running servers take it up at once. Run it on the server's machine, as the server's user.

    Examples:

      inferd reset-password elastic

      printf %s "$NEW" | inferd reset-password jack --password-stdin
    """
    from inferd.core.secrets import Secret
    from inferd.security.bootstrap import generated_password

    loaded = _load(data_dir, config)
    given = Secret(sys.stdin.readline().rstrip("\r\n")) if password_stdin else None
    password = given or generated_password()
    asyncio.run(_reset(loaded, user, password))
    _note(loaded, "reset-password", f"user/{user}", "password changed")
    if given is None:
        print(f"the new password of [{user}], shown once:", file=sys.stderr)
        print(password.reveal())
    else:
        print(f"the password of [{user}] was changed", file=sys.stderr)


async def _reset(config: "Config", user: str, password: "Secret") -> None:
    from inferd.api.app import secret_box
    from inferd.security import bootstrap
    from inferd.security.passwords import Passwords
    from inferd.store import Store

    if len(password.reveal()) < bootstrap.MIN_PASSWORD:
        raise InferdError(f"a password must have at least [{bootstrap.MIN_PASSWORD}] characters")
    passwords = Passwords()
    store = await Store.open(config.store_url, secret_box(config))
    try:
        users = store.identities.users
        if user == bootstrap.SUPERUSER and users.get(user) is None:
            await bootstrap.ensure_superuser(users, passwords, password)
        elif not await bootstrap.reset_password(users, passwords, user, password):
            raise InferdError(f"there is no user [{user}]")
    finally:
        await store.close()
        passwords.close()


def rotate_secrets(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Seal every stored provider key under a new key.

    With a key file (the default) the new key is made here and running servers follow by themselves. With
    INFERD_SECRET_KEY, start from the new one and name the one before in INFERD_OLD_SECRET_KEY, then restart the servers
    with the new one. It may be killed at any moment and run again.

    Examples:

      inferd rotate-secrets

      INFERD_SECRET_KEY=new… INFERD_OLD_SECRET_KEY=old… inferd rotate-secrets
    """
    loaded = _load(data_dir, config)
    count = asyncio.run(_rotate(loaded))
    _note(loaded, "rotate-secrets", "secrets", f"sealed [{count}] anew")
    print(f"[{count}] secrets are sealed under the new key", file=sys.stderr)


async def _rotate(config: "Config") -> int:
    from inferd.store import SecretBox
    from inferd.store.rotation import rotate

    file = config.data_path / "secret.key"
    if config.secret_key is None:
        return await rotate(config.store_url, SecretBox.at(file))
    if config.old_secret_key is not None:
        return await rotate(
            config.store_url, SecretBox.of(config.secret_key), SecretBox.of(config.old_secret_key)
        )
    if file.exists():
        return await rotate(config.store_url, SecretBox.of(config.secret_key), SecretBox.at(file))
    raise InferdError(
        "with INFERD_SECRET_KEY the key that the secrets are sealed with now goes into INFERD_OLD_SECRET_KEY"
    )


def _load(data_dir: Path | None, config: Path | None) -> "Config":
    """The configuration of a server that has been started before: a mistyped directory is no new one."""
    from inferd.config import load

    overrides: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    loaded = load(str(config) if config else None, overrides)
    if loaded.store.url is None and not (loaded.data_path / "inferd.db").exists():
        raise InferdError(f"no server has been started with the data directory [{loaded.data_path}]")
    return loaded


def _note(config: "Config", action: str, target: str, outcome: str) -> None:
    """In the audit log, as the operating system's user."""
    from inferd.api.app import audit_log

    log = audit_log(config)
    if log is not None:
        log.note(
            "change",
            user=f"uid {os.getuid()}",
            realm="command line",
            target=target,
            outcome=outcome,
            action=action,
        )
        log.close()
