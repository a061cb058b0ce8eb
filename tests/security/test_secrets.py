"""A recognisable secret in every place a secret can be given, or be given by mistake, and a search for it everywhere.

Everywhere: each answer of a server process with all its logging on, what that process printed, every byte of every file in its
data directory, and what Python shows of the objects that hold it.
"""

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from contract.house import basic
from inferd import services
from inferd.config import load
from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.settings import Kind
from inferd.core.tasks import TaskType

from .process import Server, serving

MARK = "PLANTED"
_numbers = itertools.count()


def planted(where: str) -> str:
    """Long enough for every rule, and never twice the same. Its first letters may be shown, the mark may not."""
    return f"v{next(_numbers)}x{where.replace('_', '')}x0123456789{MARK}z"


PASSWORD = planted("elasticpassword")
ENVIRONMENT = {
    "ELASTIC_PASSWORD": PASSWORD,
    "INFERD_SECRET_KEY": planted("secretkey"),
    "INFERD_OLD_SECRET_KEY": planted("oldsecretkey"),
    "AWS_SECRET_ACCESS_KEY": planted("awssecret"),
    "AWS_SESSION_TOKEN": planted("awstoken"),
    "INFERD_OUTBOUND__PROXY": f"http://user:{planted('proxy')}@127.0.0.1:9",
    "INFERD_LOG__LEVEL": "debug",
    "INFERD_API__SKIP_VALIDATE": "true",
    "INFERD_SECURITY__AUDIT_SUCCESS": "true",
}
AS_ELASTIC = {"Authorization": basic("elastic", PASSWORD)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes], int]:
    """The folder of a server that was given everything, what it answered, and how many endpoints it took."""
    folder = tmp_path_factory.mktemp("planted")
    with serving(folder / "data", folder / "output", **ENVIRONMENT) as server:
        taken = put_every_service(server)
        misplace(server)
        manage_accounts(server)
        authenticate_wrongly(server)
        look_at_everything(server)
        ask(server)
    return folder, server.said, taken


def value_of(kind: Kind, key: str) -> Any:
    if key in ("url", "uri", "endpoint"):
        return "http://127.0.0.1:9/x"
    return {Kind.STRING: "text", Kind.INTEGER: 3, Kind.LONG: 3, Kind.DOUBLE: 0.5, Kind.BOOLEAN: True}.get(
        kind, {}
    )


def secret_of(row: Any) -> Any:
    if row.key == "service_account_json":
        return json.dumps({"type": "service_account", "private_key": pem(row.key), "client_email": "a@b.c"})
    if row.kind is Kind.MAP:
        return {"a": planted(row.key), "b": planted(row.key)}
    return planted(row.key)


def pem(where: str) -> str:
    """Looks like a key and is none: what reads it complains."""
    return f"-----BEGIN PRIVATE KEY-----\n{planted(where)}\n-----END PRIVATE KEY-----\n"


def put_every_service(server: Server) -> int:
    """Each secret setting of each service, alone and with the others; how many endpoints were accepted."""
    taken = 0
    for service in services.services().values():
        secrets = [row for row in service.settings if row.secret]
        if not secrets:
            continue
        task = next(iter(service.tasks or service.calls))
        needed = {
            row.key: value_of(row.kind, row.key)
            for row in service.settings
            if not row.secret and row.required and "." not in row.key
        }
        needed |= EXTRA.get(service.name, {})
        for number, chosen in enumerate([secrets, *([row] for row in secrets)]):
            settings = {**needed, **{row.key: secret_of(row) for row in chosen}}
            name = f"{service.name.replace('_', '-')}-{number}"
            body = {"service": service.name, "service_settings": settings}
            status, _ = server("PUT", f"/_inference/{task}/{name}", body, headers=AS_ELASTIC)
            taken += status == 200
            update = {"service_settings": {row.key: secret_of(row) for row in chosen}}
            server("PUT", f"/_inference/{task}/{name}/_update", update, headers=AS_ELASTIC)
        for row in service.settings:
            if row.url:
                place = f"//user:{planted(row.key)}@127.0.0.1:9/"
                for number, url in enumerate((f"http:{place}", f"http:{place} x", f"ftp:{place}")):
                    settings = {**needed, **{each.key: "k" for each in secrets}, row.key: url}
                    body = {"service": service.name, "service_settings": settings}
                    path = f"/_inference/{task}/{service.name.replace('_', '-')}-{row.key.replace('_', '-')}-{number}"
                    server("PUT", path, body, headers=AS_ELASTIC)
    return taken


EXTRA: dict[str, dict[str, Any]] = {
    "custom": {
        "url": "http://127.0.0.1:9/${a}?key=${b}",
        "headers": {"Authorization": "Bearer ${a}"},
        "query_parameters": [["token", "${a}"]],
        "request": '{"input":${input}}',
        "response": {"json_parser": {"text_embeddings": "$.data[*].embedding[*]"}},
    },
    "amazonbedrock": {"region": "us-east-1", "provider": "amazontitan", "model": "m"},
    "amazon_sagemaker": {"region": "us-east-1", "endpoint_name": "e", "api": "elastic"},
    "azureaistudio": {"target": "http://127.0.0.1:9/x", "provider": "openai", "endpoint_type": "token"},
    "azureopenai": {"resource_name": "r", "deployment_id": "d", "api_version": "2024-02-01"},
    "googlevertexai": {"location": "us-central1", "project_id": "p", "model_id": "m"},
    "nvidia": {"model_id": "m"},
}


def misplace(server: Server) -> None:
    """The wrong level, name and type, a parameter of another name, half a body.

    Left out: texts in place of ``service``, ``url``, ``similarity`` and other settings that are no secrets. The contract's
    messages repeat what was wrong to the one who sent it.
    """
    good = {"api_key": "k", "model_id": "m"}

    def body(**more: Any) -> dict[str, Any]:
        return {"service": "openai", "service_settings": good, **more}

    bodies: list[Any] = [
        body(api_key=planted("toplevel")),
        body(secrets={"api_key": planted("nested")}),
        body(task_settings={"api_key": planted("tasksettings")}),
        body(chunking_settings={"api_key": planted("chunking")}),
        *(
            {"service": "openai", "service_settings": {**good, **wrong}}
            for wrong in (
                {"apikey": planted("name")},
                {"api_key": {"value": planted("map")}},
                {"api_key": [planted("list")]},
                {"secret_parameters": {"a": planted("othersetting")}},
                {"authentication": {"api_key": planted("deep")}},
                {"rate_limit": {"api_key": planted("ratelimit")}},
                {"url": f"http://user:{planted('userinfo')}@127.0.0.1:9/"},
            )
        ),
        f'{{"service":"openai","service_settings":{{"api_key":"{planted("truncated")}'.encode(),
        f'{{"service":"openai","service_settings":{{"api_key":{planted("unquoted")}}}}}'.encode(),
        f'{{"service":"openai","service_settings":{{"api_key":"a\\q{planted("escape")}"}}}}'.encode(),
        f"{planted('nojson')}".encode(),
    ]
    for number, wrong in enumerate(bodies):
        path = f"/_inference/text_embedding/wrong-{number}"
        server("PUT", path, wrong, headers=AS_ELASTIC)
        server("PUT", f"{path}?error_trace=true&pretty", wrong, headers=AS_ELASTIC)
    yaml = f"service: openai\nservice_settings:\n  api_key: [{planted('yaml')}"
    server("PUT", "/_inference/a", yaml.encode(), headers={**AS_ELASTIC, "Content-Type": "application/yaml"})
    server("PUT", "/_inference/_ccm", {"api_key": planted("ccm")}, headers=AS_ELASTIC)
    for path, openai in (
        ("/v1/embeddings", {"model": "m", "input": "a", "api_key": planted("openaibody")}),
        ("/v2/embed", {"model": "m", "texts": ["a"], "api_key": planted("coherebody")}),
        ("/tei/m/embed", {"inputs": "a", "api_key": planted("teibody")}),
    ):
        server("POST", path, openai, headers=AS_ELASTIC)


def manage_accounts(server: Server) -> None:
    password = planted("password")
    users = "/_security/user"
    for path, body in (
        (f"{users}/ann", {"password": password, "roles": ["inference_user"]}),
        (f"{users}/ann", {"password": planted("unknownfield"), "roles": [], "passwrd": planted("typo")}),
        (f"{users}/ann", {"password": {"value": planted("passwordmap")}, "roles": []}),
        (f"{users}/ann", {"user": {"password": planted("passworddeep")}, "roles": []}),
        (f"{users}/ann", {"roles": [{"password": planted("inroles")}]}),
        (f"{users}/ann", {"metadata": planted("metadatatext"), "roles": []}),
        (f"{users}/ann", {"enabled": planted("enabled"), "roles": []}),
        (f"{users}/ann", {"password_hash": planted("passwordhash"), "roles": []}),
        (f"{users}/ann/_password", {"password": [planted("passwordlist")]}),
        (f"{users}/_password", {"passwort": planted("wrongfield")}),
        ("/_security/role/r", {"cluster": {"secret": planted("cluster")}}),
        ("/_security/api_key", {"name": {"secret": planted("keyname")}}),
        ("/_security/api_key", {"name": "k", "expiration": {"secret": planted("expiration")}}),
        ("/_security/api_key", {"name": "k", "role_descriptors": {"r": planted("descriptor")}}),
    ):
        server("PUT", path, body, headers=AS_ELASTIC)
    as_ann = {"Authorization": basic("ann", password)}
    server("POST", f"{users}/_password", {"password": planted("ownpassword")}, headers=as_ann)
    server("GET", "/_security/_authenticate", headers=as_ann)


def authenticate_wrongly(server: Server) -> None:
    for header in (
        basic("elastic", planted("wrongpassword")),
        basic("nobody", planted("unknownuser")),
        "Basic " + base64.b64encode(planted("nocolon").encode()).decode(),
        f"Basic {planted('nobase64')}",
        f"ApiKey {planted('nobase64key')}",
        "ApiKey " + base64.b64encode(f"id:{planted('wrongkey')}".encode()).decode(),
        "ApiKey " + base64.b64encode(planted("keynocolon").encode()).decode(),
        f"Bearer {planted('bearer')}",
        f"Bearer sk-{planted('vendorkey')}",
        planted("noscheme"),
        f"Digest {planted('digest')}",
    ):
        for path in ("/_inference", "/v1/models", "/tei/x/info", "/nope"):
            server("GET", path, headers={"Authorization": header})


def look_at_everything(server: Server) -> None:
    for path in (
        "/",
        "/_inference/_all?pretty",
        "/_inference/_services",
        "/_inference/.diagnostics",
        "/v1/models",
        "/_security/user",
        "/_security/role",
        "/_security/api_key?with_limited_by=true",
        "/_security/_authenticate",
        "/nope",
    ):
        server("GET", path, headers=AS_ELASTIC)


TEXT = planted("inputtext")


CHAT = {
    "messages": [{"role": "user", "content": planted("chattext")}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get",
                "description": f"Authorization: Bearer {planted('tool')}",
                "parameters": {"type": "object", "default": {"token": planted("toolparameter")}},
            },
        }
    ],
}


def ask(server: Server) -> None:
    """Providers that cannot be reached: the failure tells of neither key nor text."""
    settings = {"api_key": planted("chatkey"), "model_id": "m", "url": "http://127.0.0.1:9/x"}
    body = {"service": "openai", "service_settings": settings}
    assert server("PUT", "/_inference/chat_completion/chat", body, headers=AS_ELASTIC)[0] == 200
    for name in ("openai-0", "cohere-0", "hugging-face-0", "custom-0"):
        server("POST", f"/_inference/{name}?timeout=1s", {"input": TEXT}, headers=AS_ELASTIC)
    for path, chat in (
        ("/_inference/chat_completion/chat/_stream", {}),
        ("/_inference/chat_completion/chat", {}),
        ("/v1/chat/completions", {"model": "chat"}),
    ):
        server("POST", path, {**CHAT, **chat}, headers=AS_ELASTIC)
        server("POST", path, {**CHAT, **chat, "temperature": "hot"}, headers=AS_ELASTIC)
    made = server("PUT", "/_security/api_key", {"name": "k"}, headers=AS_ELASTIC)[1]
    server.said.pop()
    key = json.loads(made)
    for header in (f"ApiKey {key['encoded']}", f"Bearer {key['encoded']}"):
        server("GET", "/_security/_authenticate", headers={"Authorization": header})
    server("GET", "/_security/api_key", headers=AS_ELASTIC)
    KEYS.append(key)


KEYS: list[dict[str, str]] = []


def needles() -> list[bytes]:
    found = [MARK.encode(), MARK.swapcase().encode(), MARK.encode("utf-16-le")]
    for shift in range(3):  # base64 of anything that holds the mark, whatever comes before it
        inner = base64.b64encode(b"_" * shift + MARK.encode())
        found.append(inner[4 if shift else 0 : -4] if shift else inner[:8])
    return [needle for needle in found if len(needle) >= 4]


def leaks(content: bytes) -> list[bytes]:
    keys = [key[name].encode() for key in KEYS for name in ("api_key", "encoded")]
    shown = []
    for needle in [*needles(), *keys]:
        at = content.find(needle)
        if at >= 0:
            shown.append(content[max(0, at - 80) : at + 80])
    return shown


def test_enough_was_planted(ran: tuple[Path, list[bytes], int]) -> None:
    """The search would mean nothing had the server refused everything."""
    assert ran[2] >= 20
    assert next(_numbers) > 120
    assert len(KEYS) == 1


def test_answers(ran: tuple[Path, list[bytes], int]) -> None:
    assert len(ran[1]) > 300
    assert [content[:600] for content in ran[1] if leaks(content)] == []


def test_output(ran: tuple[Path, list[bytes], int]) -> None:
    """Everything the process printed, with debug logging on."""
    output = (ran[0] / "output").read_bytes()
    assert b"listens on" in output
    assert not leaks(output)


def test_files(ran: tuple[Path, list[bytes], int]) -> None:
    """The database's pages, its journal, the audit log and whatever else lies there."""
    files = [file for file in (ran[0] / "data").rglob("*") if file.is_file()]
    assert {"inferd.db", "audit.log"} <= {file.name for file in files}
    for file in files:
        assert not leaks(file.read_bytes()), file


def test_audit_lines(ran: tuple[Path, list[bytes], int]) -> None:
    lines = [json.loads(line) for line in (ran[0] / "data" / "audit.log").read_bytes().splitlines()]
    events = {line["event"] for line in lines}
    assert events == {"authentication_failed", "authentication_success", "change"}


def test_the_search_finds(ran: tuple[Path, list[bytes], int]) -> None:
    """A planted secret in the clear, in base64 behind any name, and a key's are all found."""
    assert leaks(f'{{"reason":"bad {planted("x")}"}}'.encode())
    for user in ("a", "ab", "abc", "elastic"):
        assert leaks(basic(user, planted("x")).encode()), user
    assert leaks(KEYS[0]["encoded"].encode())


def test_what_python_shows() -> None:
    """Of the configuration, an endpoint, a secret and the errors of a bad one."""
    environ = {**ENVIRONMENT, "HOME": "/nowhere"}
    config = load(environ=environ)
    secret = Secret(planted("secret"))
    endpoint = Endpoint(
        id="a",
        task=TaskType.RERANK,
        service="s",
        settings={},
        secrets={"api_key": secret, "m": {"k": secret}},
    )
    for thing in (config, endpoint, secret, [secret], {"k": secret}, config.environment, Exception(secret)):
        for text in (repr(thing), str(thing), f"{thing}", "%s %r" % (thing, thing)):  # noqa: UP031
            assert MARK not in text
    with pytest.raises(Exception, match="configuration") as caught:
        load(environ={**environ, "INFERD_SECRET_KEY": json.dumps({"a": planted("config")})})
    assert MARK not in str(caught.value)
