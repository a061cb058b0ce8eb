"""The official Python client's ``security`` namespace, over a real connection."""

import time
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher
from elastic_transport import ObjectApiResponse
from elasticsearch import (
    AsyncElasticsearch,
    AuthenticationException,
    AuthorizationException,
    BadRequestError,
    NotFoundError,
)

from contract.house import PASSWORD, Client
from inferd.security import passwords

from .listening import listening


@pytest.fixture
async def es(root: Client) -> AsyncIterator[AsyncElasticsearch]:
    async with listening(root) as url:
        client = AsyncElasticsearch(
            url, basic_auth=("elastic", PASSWORD), retry_on_timeout=False, max_retries=0
        )
        try:
            yield client
        finally:
            await client.close()


async def denied(call: object) -> str:
    with pytest.raises(AuthorizationException) as caught:
        await call  # type: ignore[misc]
    return str(caught.value.body["error"]["reason"])


async def refused(call: object) -> str:
    with pytest.raises(BadRequestError) as caught:
        await call  # type: ignore[misc]
    return str(caught.value.body["error"]["reason"])


def body(answer: ObjectApiResponse) -> dict:
    return dict(answer.body)


async def test_authenticate(es: AsyncElasticsearch) -> None:
    realm = {"name": "native1", "type": "native"}
    assert body(await es.security.authenticate()) == {
        "username": "elastic",
        "roles": ["superuser"],
        "full_name": None,
        "email": None,
        "metadata": {"_reserved": True},
        "enabled": True,
        "authentication_realm": realm,
        "lookup_realm": realm,
        "authentication_type": "realm",
    }


async def test_users(es: AsyncElasticsearch) -> None:
    """Put, get, disable, enable, change the password, delete."""
    users = es.security
    made = await users.put_user(
        username="jack",
        password="password-1",
        roles=["inference_user", "later"],
        full_name="Jack N",
        email="jack@example.org",
        metadata={"n": 1},
        refresh="wait_for",
    )
    assert body(made) == {"created": True}
    shown = {
        "username": "jack",
        "roles": ["inference_user", "later"],
        "full_name": "Jack N",
        "email": "jack@example.org",
        "metadata": {"n": 1},
        "enabled": True,
    }
    assert body(await users.get_user(username="jack", with_profile_uid=True)) == {"jack": shown}
    assert set(body(await users.get_user(username=["jack", "elastic", "nobody"]))) == {"jack", "elastic"}
    assert set(body(await users.get_user())) == {"jack", "elastic"}

    jack = es.options(basic_auth=("jack", "password-1"))
    assert (await jack.security.authenticate())["roles"] == ["inference_user", "later"]
    assert body(await users.disable_user(username="jack", refresh=True)) == {}
    with pytest.raises(AuthenticationException):
        await jack.security.authenticate()
    assert body(await users.enable_user(username="jack")) == {}
    await jack.security.authenticate()

    assert body(await users.change_password(username="jack", password="password-2")) == {}
    with pytest.raises(AuthenticationException):
        await jack.security.authenticate()
    jack = es.options(basic_auth=("jack", "password-2"))
    assert body(await jack.security.change_password(password="password-3")) == {}
    with pytest.raises(AuthenticationException):
        await jack.security.authenticate()
    jack = es.options(basic_auth=("jack", "password-3"))
    await jack.security.authenticate()

    assert body(await users.put_user(username="jack", roles=[])) == {"created": False}
    assert (await jack.security.authenticate())["roles"] == []
    assert (await users.get_user(username="jack"))["jack"]["full_name"] is None
    assert body(await users.delete_user(username="jack")) == {"found": True}
    with pytest.raises(AuthenticationException):
        await jack.security.authenticate()
    for gone in (users.delete_user(username="jack"), users.get_user(username="jack")):
        with pytest.raises(NotFoundError) as caught:
            await gone
        assert caught.value.body in ({"found": False}, {})


async def test_rules_for_users(es: AsyncElasticsearch) -> None:
    users = es.security
    assert "password must be specified" in await refused(users.put_user(username="a", roles=[]))
    assert "at least [6] characters" in await refused(
        users.put_user(username="a", roles=[], password="12345")
    )
    for name in (" a", "a ", "ü", "a\nb", "n" * 508):
        assert "User names must be" in await refused(
            users.put_user(username=name, roles=[], password="password-1")
        )
    longest = "n" * 507
    assert (await users.put_user(username=longest, roles=[], password="password-1"))["created"]
    assert "reserved" in await refused(users.put_user(username="elastic", roles=[]))
    assert "reserved" in await refused(users.delete_user(username="elastic"))
    assert "reserved" in await refused(users.disable_user(username="elastic"))
    assert "metadata keys" in await refused(
        users.put_user(username="a", roles=[], password="password-1", metadata={"_reserved": True})
    )
    assert "must exist" in await refused(users.change_password(username="nobody", password="password-1"))
    assert "must exist" in await refused(users.enable_user(username="nobody"))
    assert "wait_for" in await refused(users.delete_user(username="a", refresh="maybe"))


async def test_password_hashes(es: AsyncElasticsearch) -> None:
    """A hash made elsewhere is taken, if it is made and costs what ours do; no other, and not beside a password."""
    users = es.security
    ours = PasswordHasher(time_cost=2, memory_cost=passwords.MEMORY, parallelism=1)
    await users.put_user(username="jack", password_hash=ours.hash("password-1"), roles=[])
    for number in (1, 2):
        jack = es.options(basic_auth=("jack", f"password-{number}"))
        assert (await jack.security.authenticate())["username"] == "jack"
        await users.change_password(username="jack", password_hash=ours.hash("password-2"))
        with pytest.raises(AuthenticationException):
            await es.options(basic_auth=("jack", "password-1")).security.authenticate()
    dearer = PasswordHasher(time_cost=3, memory_cost=passwords.MEMORY, parallelism=1)
    for wrong in (
        "$2a$10$x",
        "",
        dearer.hash("a"),
        ours.hash("a").replace("argon2id", "argon2i"),
        f"{ours.hash('a')[:-1]}ü",
        f"{ours.hash('a')}$",
    ):
        told = await refused(users.put_user(username="a", roles=[], password_hash=wrong))
        assert "[password_hash] must be argon2id" in told, wrong
        assert not wrong or wrong not in told
    assert "not both" in await refused(
        users.put_user(username="a", roles=[], password="password-1", password_hash=ours.hash("a"))
    )
    assert "not both" in await refused(
        users.change_password(username="jack", password="password-1", password_hash=ours.hash("a"))
    )


async def test_roles(es: AsyncElasticsearch) -> None:
    roles = es.security
    made = await roles.put_role(
        name="searchers",
        cluster=["monitor_inference"],
        indices=[{"names": ["logs-*"], "privileges": ["read"]}],
        run_as=["other"],
        metadata={"team": "search"},
        description="May search.",
        transient_metadata={"enabled": True},
        global_={},
    )
    assert body(made) == {"role": {"created": True}}
    assert body(await roles.get_role(name="searchers")) == {
        "searchers": {
            "cluster": ["monitor_inference"],
            "indices": [{"names": ["logs-*"], "privileges": ["read"]}],
            "applications": [],
            "run_as": ["other"],
            "metadata": {"team": "search"},
            "global": {},
            "transient_metadata": {"enabled": True},
            "description": "May search.",
        }
    }
    assert body(await roles.put_role(name="searchers", cluster=["all"])) == {"role": {"created": False}}
    assert set(body(await roles.get_role())) >= {
        "searchers",
        "superuser",
        "inference_admin",
        "inference_user",
    }
    assert (await roles.get_role(name="inference_admin"))["inference_admin"] == {
        "cluster": ["manage_inference"],
        "indices": [],
        "applications": [],
        "run_as": [],
        "metadata": {"_reserved": True},
        "transient_metadata": {"enabled": True},
        "description": "Grants access necessary to manage inference models and performing inference.",
    }
    assert "reserved" in await refused(roles.put_role(name="superuser", cluster=["all"]))
    assert "reserved" in await refused(roles.delete_role(name="viewer"))
    assert body(await roles.delete_role(name="searchers")) == {"found": True}
    for gone in (roles.delete_role(name="searchers"), roles.get_role(name="searchers")):
        with pytest.raises(NotFoundError) as caught:
            await gone
        assert caught.value.body in ({"found": False}, {})


async def test_a_role_counts_at_once(es: AsyncElasticsearch) -> None:
    """Changing or removing a role that is in use changes what its users may, from the next request on."""
    await es.security.put_role(name="r", cluster=["monitor_inference"])
    await es.security.put_user(username="jack", password="password-1", roles=["r"])
    jack = es.options(basic_auth=("jack", "password-1"))
    await jack.inference.get()
    await es.security.put_role(name="r", cluster=["monitor_ml"])
    assert "effective roles [r]," in await denied(jack.inference.get())
    await es.security.put_role(name="r", cluster=["cluster:monitor/xpack/*"])
    await jack.inference.get()
    await es.security.delete_role(name="r")
    assert "effective roles [] (assigned roles [r] were not found)" in await denied(jack.inference.get())


async def test_api_keys(es: AsyncElasticsearch) -> None:
    """Create, use, get, update, invalidate."""
    before = int(time.time() * 1000)
    made = body(
        await es.security.create_api_key(
            name="app",
            expiration="7d",
            metadata={"team": "x"},
            role_descriptors={"r": {"cluster": ["monitor_inference"]}},
        )
    )
    assert made.keys() == {"id", "name", "expiration", "api_key", "encoded"}
    assert 0 <= made["expiration"] - before - 7 * 86_400_000 < 60_000
    by_key = es.options(api_key=made["encoded"])
    who = body(await by_key.security.authenticate())
    assert who["authentication_type"] == "api_key"
    assert who["api_key"] == {"id": made["id"], "name": "app", "managed_by": "elasticsearch"}
    assert who["authentication_realm"] == {"name": "_es_api_key", "type": "_es_api_key"}
    assert (await es.options(api_key=(made["id"], made["api_key"])).security.authenticate())[
        "username"
    ] == "elastic"
    assert (await es.options(bearer_auth=made["encoded"]).security.authenticate())["username"] == "elastic"
    await by_key.inference.get()
    assert "API key id" in await denied(by_key.info())

    [shown] = (await es.security.get_api_key(id=made["id"], with_limited_by=True, with_profile_uid=True))[
        "api_keys"
    ]
    assert shown["limited_by"][0]["superuser"]["cluster"] == ["all"]
    assert before - 60_000 < shown["creation"] < before + 60_000
    assert {k: v for k, v in shown.items() if k not in ("limited_by", "creation", "role_descriptors")} == {
        "id": made["id"],
        "name": "app",
        "type": "rest",
        "expiration": made["expiration"],
        "invalidated": False,
        "username": "elastic",
        "realm": "native1",
        "realm_type": "native",
        "metadata": {"team": "x"},
    }
    assert made["api_key"] not in str(shown)

    assert body(await es.security.update_api_key(id=made["id"], metadata={"team": "y"})) == {"updated": True}
    assert body(await es.security.update_api_key(id=made["id"], metadata={"team": "y"})) == {"updated": False}
    await es.security.update_api_key(id=made["id"], role_descriptors={})
    await by_key.info()

    ended = body(await es.security.invalidate_api_key(ids=[made["id"], "unknown"]))
    assert ended == {
        "invalidated_api_keys": [made["id"]],
        "previously_invalidated_api_keys": [],
        "error_count": 0,
    }
    with pytest.raises(AuthenticationException):
        await by_key.info()
    again = body(await es.security.invalidate_api_key(name="a*"))
    assert again["previously_invalidated_api_keys"] == [made["id"]]
    assert body(await es.security.get_api_key(active_only=True)) == {"api_keys": []}
    with pytest.raises(NotFoundError):
        await es.security.get_api_key(id="unknown")
    assert "invalidated" in await refused(es.security.update_api_key(id=made["id"]))
    with pytest.raises(NotFoundError):
        await es.security.update_api_key(id="unknown")


async def test_own_keys_only(es: AsyncElasticsearch) -> None:
    """``manage_own_api_key``: one's own keys are all that is seen, ended and changed; a key's only key is itself."""
    await es.security.put_role(name="own", cluster=["manage_own_api_key", "monitor_inference"])
    for name in ("ann", "bob"):
        await es.security.put_user(username=name, password="password-1", roles=["own"])
    ann, bob = (es.options(basic_auth=(name, "password-1")).security for name in ("ann", "bob"))
    hers = await ann.create_api_key(name="hers")
    his = await bob.create_api_key(name="his")
    second = await bob.create_api_key(name="second")

    async def seen(by: object, **asked: object) -> set[str]:
        return {key["name"] for key in (await by.get_api_key(**asked))["api_keys"]}  # type: ignore[attr-defined]

    assert await seen(ann) == await seen(ann, owner=True) == await seen(ann, username="ann") == {"hers"}
    assert await seen(ann, username="bob") == await seen(ann, name="his") == set()
    assert await seen(es.security) == {"hers", "his", "second"}
    assert await seen(es.security, owner=True) == set()
    assert await seen(es.security, username="bob", realm_name="native1") == {"his", "second"}
    with pytest.raises(NotFoundError):
        await ann.get_api_key(id=his["id"])
    for asked in ({"ids": [his["id"]]}, {"username": "bob"}, {"realm_name": "native1"}, {"name": "*"}):
        assert (
            "[cluster:admin/xpack/security/api_key/invalidate] is unauthorized for user [ann]"
            in await denied(ann.invalidate_api_key(**asked))
        )
    assert (await ann.invalidate_api_key(ids=[his["id"]], owner=True))["invalidated_api_keys"] == []
    with pytest.raises(NotFoundError):
        await ann.update_api_key(id=his["id"], metadata={})

    by_key = es.options(api_key=his["encoded"]).security
    assert await seen(by_key) == await seen(by_key, owner=True) == {"his"}
    with pytest.raises(NotFoundError):
        await by_key.get_api_key(id=second["id"])
    assert "API key id" in await denied(by_key.invalidate_api_key(ids=[second["id"]]))
    assert "API key id" in await denied(by_key.invalidate_api_key(username="bob"))
    assert "authenticate as their owner" in await refused(by_key.update_api_key(id=his["id"], metadata={}))
    assert (await by_key.invalidate_api_key(owner=True))["invalidated_api_keys"] == [his["id"]]
    assert await seen(bob, active_only=True) == {"second"}
    assert (await ann.invalidate_api_key(username="ann"))["invalidated_api_keys"] == [hers["id"]]


async def test_a_key_never_exceeds_its_owner(es: AsyncElasticsearch) -> None:
    await es.security.put_role(name="own", cluster=["manage_own_api_key", "monitor_inference"])
    await es.security.put_user(username="ann", password="password-1", roles=["own"])
    ann = es.options(basic_auth=("ann", "password-1"))
    wide = await ann.security.create_api_key(name="wide", role_descriptors={"r": {"cluster": ["all"]}})
    by_key = es.options(api_key=wide["encoded"])
    await by_key.inference.get()
    await denied(by_key.security.get_user())
    await denied(by_key.info())
    await es.security.put_user(username="ann", roles=["superuser"])
    await denied(by_key.info())  # the owner's rights of its creation
    await ann.security.update_api_key(id=wide["id"], metadata={"n": 2})
    await by_key.info()  # an update takes the owner's rights of now


async def test_a_key_made_by_a_key(es: AsyncElasticsearch) -> None:
    """It may nothing, and has to say so."""
    made = await es.security.create_api_key(name="k")
    by_key = es.options(api_key=made["encoded"])
    for wish in ({}, {"r": {"cluster": ["monitor"]}}, {"a": {}, "r": {"cluster": ["none"]}}):
        assert "derived api keys" in await refused(
            by_key.security.create_api_key(name="derived", role_descriptors=wish)
        )
    derived = await by_key.security.create_api_key(name="derived", role_descriptors={"r": {}})
    nothing = es.options(api_key=derived["encoded"])
    assert (await nothing.security.authenticate())["username"] == "elastic"
    await denied(nothing.info())
    await denied(nothing.inference.get())
    await denied(nothing.security.create_api_key(name="third", role_descriptors={"r": {}}))


async def test_a_key_does_not_change_its_owners_password(es: AsyncElasticsearch) -> None:
    await es.security.put_user(username="ann", password="password-1", roles=["inference_admin"])
    await es.security.put_role(name="own", cluster=["manage_own_api_key"])
    await es.security.put_user(username="ann", roles=["own", "inference_admin"])
    ann = es.options(basic_auth=("ann", "password-1"))
    made = await ann.security.create_api_key(name="k")
    by_key = es.options(api_key=made["encoded"])
    for wish in ({}, {"username": "ann"}):
        assert "change_password] is unauthorized for API key id" in await denied(
            by_key.security.change_password(password="password-2", **wish)
        )
    assert "user [ann]" in await denied(
        ann.security.change_password(username="elastic", password="password-2")
    )


async def test_rules_for_keys(es: AsyncElasticsearch) -> None:
    create = es.security.create_api_key
    for name in ("", " a", "a ", "_a", "n" * 257):
        assert "api key name" in await refused(create(name=name))
    for expiration in ("soon", "0", "-1", "1.5d", "7"):
        assert await refused(create(name="k", expiration=expiration))
    assert "unexpected field [restriction]" in await refused(
        create(name="k", role_descriptors={"r": {"restriction": {"workflows": ["x"]}}})
    )
    assert "one of" in await refused(es.security.invalidate_api_key(body={}))
    assert "[owner]" in await refused(es.security.get_api_key(owner=True, username="x"))
    assert "[owner]" in await refused(es.security.invalidate_api_key(owner=True, username="x"))


async def test_has_privileges(es: AsyncElasticsearch) -> None:
    await es.security.put_user(username="ann", password="password-1", roles=["inference_user"])
    ann = es.options(basic_auth=("ann", "password-1"))
    asked = {
        "cluster": ["monitor_inference", "manage_inference", "monitor"],
        "index": [{"names": ["a", "b"], "privileges": ["read"]}],
        "application": [{"application": "x", "privileges": ["p"], "resources": ["*"]}],
    }
    assert body(await ann.security.has_privileges(**asked)) == {
        "username": "ann",
        "has_all_requested": False,
        "cluster": {"monitor_inference": True, "manage_inference": False, "monitor": False},
        "index": {"a": {"read": False}, "b": {"read": False}},
        "application": {"x": {"*": {"p": False}}},
    }
    assert (await ann.security.has_privileges(cluster="monitor_inference"))["has_all_requested"]
    assert (await es.security.has_privileges(**asked))["has_all_requested"]
    assert (await ann.security.has_privileges(user="ann", cluster=["all"]))["cluster"] == {"all": False}
    await denied(ann.security.has_privileges(user="elastic", cluster=["all"]))
    about = await es.security.has_privileges(user="ann", cluster=["monitor_inference", "all"])
    assert about["username"] == "ann"
    assert about["cluster"] == {"monitor_inference": True, "all": False}
    for role, privilege, held in (
        ("monitoring_user", "cluster:monitor/main", True),
        ("inference_admin", "monitor_inference", True),
        ("machine_learning_admin", "monitor_ml", True),
        ("machine_learning_admin", "monitor_inference", False),
        ("superuser", "manage_own_api_key", True),
    ):
        await es.security.put_user(username="ann", roles=[role])
        assert (await ann.security.has_privileges(cluster=[privilege]))["has_all_requested"] is held, role
    await es.security.put_role(name="m", cluster=["monitor"])
    await es.security.put_user(username="ann", roles=["m"])
    asked_by_name = {
        "monitor_inference": True,
        "monitor_ml": True,
        "cluster:monitor/main": True,
        "cluster:admin/xpack/inference/put": False,
        "manage_inference": False,
    }
    implied = await ann.security.has_privileges(cluster=list(asked_by_name))
    assert implied["cluster"] == asked_by_name
    many = [{"names": [str(n) for n in range(101)], "privileges": [str(n) for n in range(100)]}]
    assert "more than [10000]" in await refused(es.security.has_privileges(index=many))
    assert "at least one privilege" in await refused(es.security.has_privileges(body={}))


async def test_builtin_privileges(es: AsyncElasticsearch) -> None:
    found = await es.security.get_builtin_privileges()
    assert set(found["cluster"]) == {
        "all",
        "manage",
        "manage_api_key",
        "manage_inference",
        "manage_ml",
        "manage_own_api_key",
        "manage_security",
        "monitor",
        "monitor_inference",
        "monitor_ml",
        "none",
        "read_security",
    }
    assert found["index"] == []
