"""All services together: the names and facts of the contract, and a test for each."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import inferd.services
from inferd.actions import get
from inferd.core.endpoint import Endpoint
from inferd.core.settings import Draft, default
from inferd.core.tasks import TaskType
from inferd.services import find, services

from .base import SettingsTest, house_of

FACTS: dict[str, Any] = msgspec.json.decode(
    (Path(__file__).parents[1] / "contract" / "services.json").read_bytes()
)
ALIASES = {"elser": "elasticsearch", "sagemaker": "amazon_sagemaker", "amazonsagemaker": "amazon_sagemaker"}
NAMES = sorted(FACTS.keys() - ALIASES.keys())

TYPES = {"integer": "int", "string": "str", "boolean": "bool", "object": "map"}

WORDED = {
    "Key used to authenticate with the provider.": "API Key for the provider you're connecting to.",
    "Requests allowed per minute, to lower the number of rate limit errors.": "Minimize the number of rate limit "
    "errors.",
}
"""What services.json says in words of its own where services/common.md sections 3 and 11 quote the literal text."""
OWN_WORDS = {"groq", "deepseek"}
"""Their descriptions of the same settings are their own (common.md section 11, groq.md)."""
LITERAL = {
    ("hugging_face", "url"): "The URL endpoint to use for the requests.",
    ("llama", "api_key"): "API Key for the provider you're connecting to.",
}
"""Descriptions that the service's document quotes."""
ASIDES = re.compile(
    r" \(newest line only\)| \(it is really a task setting\)| Not in the published specification\."
    r"| Listed as not updatable but the _update API does accept it\.|; for other task types an unknown-setting error"
)
"""Remarks about the contract itself."""

REQUIRED = {("llama", "api_key"), ("alibabacloud-ai-search", "http_schema")}
"""Shown as required though a PUT may leave them out (their documents say so)."""
MORE = {
    "amazon_sagemaker": {
        "custom_attributes",
        "enable_explanations",
        "inference_id",
        "session_id",
        "target_variant",
    },
    "elastic": {"max_input_tokens"},
}
"""Entries that only the prose of the document names."""
DEFAULTS = {
    ("groq", "url"): "https://api.groq.com/openai/v1/chat/completions",
    ("deepseek", "url"): "https://api.deepseek.com/chat/completions",
    ("elasticsearch", "num_allocations"): 1,
    ("elasticsearch", "num_threads"): 2,
    ("custom", "batch_size"): 10,
}
"""Default values that are published; elsewhere a default is only what a PUT fills in."""


@pytest.fixture(scope="module")
def listed() -> dict[str, dict[str, Any]]:
    return {entry["service"]: entry for entry in get.services(house_of(services()), TaskType.ANY)}


def test_every_service_of_the_contract_is_here() -> None:
    """No service is missing."""
    assert {*NAMES, "hugging_face_elser"} <= services().keys()


def test_modules_are_named_as_their_services() -> None:
    """A service is found where its name says."""
    for module in pkgutil.iter_modules(inferd.services.__path__):
        service = importlib.import_module(f"inferd.services.{module.name}").SERVICE
        assert service.name.replace("-", "_") == module.name


def test_every_service_has_a_test() -> None:
    """A class of values in the file that its name says."""
    for name in services():
        if services()[name].calls:
            module = importlib.import_module(f"{__package__}.test_{name.replace('-', '_')}")
            tests = [
                value
                for value in vars(module).values()
                if isinstance(value, type) and issubclass(value, SettingsTest) and hasattr(value, "service")
            ]
            assert {test.service.name for test in tests} == {name}
            covered = {case.task for test in tests for case in test.cases}
            assert covered == set(services()[name].calls), f"{name} lacks cases"


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(alias: str, name: str) -> None:
    """Old names lead to the service; names are matched exactly."""
    found = find(alias)
    assert found is not None
    assert found.name == name
    assert find(alias.upper()) is None


def test_list_is_sorted_and_without_aliases(listed: dict[str, dict[str, Any]]) -> None:
    """GET _inference/_services names each service once, by its own name."""
    assert list(listed) == sorted(set(services()) - {"hugging_face_elser"})
    assert not listed.keys() & ALIASES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_entry(name: str, listed: dict[str, dict[str, Any]]) -> None:
    """Name and task types are the contract's, in its order."""
    assert listed[name]["name"] == FACTS[name]["name"]
    assert listed[name]["task_types"] == FACTS[name]["task_types"]
    rows = {row["key"] for row in FACTS[name]["settings"] if row["in_services_api"]}
    assert listed[name]["configurations"].keys() == rows | MORE.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_configurations(name: str, listed: dict[str, dict[str, Any]]) -> None:
    """Every setting is published as the contract has it, and its members stand in alphabetical order but for the last two."""
    for row in FACTS[name]["settings"]:
        key = row["key"]
        if not row["in_services_api"]:
            continue
        entry = listed[name]["configurations"][key]
        expected = {
            "default_value": DEFAULTS.get((name, key)),
            "description": described(name, row),
            "label": row["label"],
            "required": row["required"] or (name, key) in REQUIRED,
            "sensitive": row["sensitive"],
            "updatable": row["updatable"],
            "type": TYPES.get(row["type"], row["type"]),
            "supported_task_types": row["task_types"],
        }
        assert list(entry.items()) == [(k, v) for k, v in expected.items() if v is not None], key


def described(name: str, row: dict[str, Any]) -> str:
    text = LITERAL.get((name, row["key"]))
    if text is None:
        text = str(row["description"])
        text = text if name in OWN_WORDS else WORDED.get(text, text)
    return ASIDES.sub("", text)


@pytest.mark.parametrize("name", NAMES)
def test_rate_limits(name: str) -> None:
    """Requests a minute, by task."""
    service, fact = services()[name], FACTS[name]["default_rate_limit"]
    if fact is None or not service.calls:
        assert not service.calls or all(
            row.key != "rate_limit.requests_per_minute" for row in service.settings
        )
        return
    row = next(row for row in service.settings if row.key == "rate_limit.requests_per_minute")
    found = {str(task): default(row, Draft(name, task)) for task in service.calls}
    assert found == (fact if isinstance(fact, dict) else dict.fromkeys(FACTS[name]["task_types"], fact))


@pytest.mark.parametrize("name", NAMES)
def test_streams(name: str) -> None:
    """What the contract streams is streamed here."""
    service = services()[name]
    expected = FACTS[name]["streaming_task_types"] if service.calls else []
    assert sorted(service.streaming_tasks) == sorted(expected)


@pytest.mark.parametrize("name", NAMES)
def test_similarity_and_batch(name: str) -> None:
    """The default similarity, and how many chunks go into one request, where they are one value for the service."""
    service, fact = services()[name], FACTS[name]
    similarity = fact["default_similarity"]
    if similarity in ("cosine", "dot_product", "l2_norm"):
        assert given(service.similarity, name) == similarity
    if isinstance(fact["chunked_batch_size"], int):
        assert given(service.embedding_batch, name) == fact["chunked_batch_size"]


def given(value: Any, name: str) -> Any:
    """A value, or what the rule behind it says for an endpoint of which nothing but the defaults is known."""
    if not callable(value):
        return value
    task = TaskType.TEXT_EMBEDDING
    filled = {
        row.key: default(row, Draft(name, task)) for row in services()[name].settings if row.serves(task)
    }
    settings = {key: value for key, value in filled.items() if value is not None}
    return value(Endpoint(id="e", task=task, service=name, settings=settings))
