"""Endpoints of local models through a whole server: created, attached, changed, deleted, late; by the bundled models."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contract.house import Client, serving
from inferd.core.service import Ask
from inferd.errors import StatusError

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT = {
    "text_embedding": ".all-minilm-l6-v2",
    "sparse_embedding": ".minilm-sparse",
    "rerank": ".minilm-late-interaction",
}
STAND_IN = '299 Elasticsearch-9.5.0 "model [{name}] is served by the stand-in [{true}]; see models.aliases"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """One for all, with a deployment of each model, so that its weights stay."""
    async with serving(tmp_path_factory.mktemp("house"), "http://127.0.0.1:1") as opened:
        for task, model in KEPT.items():
            await put(opened, f"keep-{task.replace('_', '-')}", local(model), task)
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: Client) -> AsyncIterator[Client]:
    """What a test creates goes with it."""
    yield house
    for endpoint in (await house("GET", "/_inference")).json["endpoints"]:
        id = endpoint["inference_id"]
        if not id.startswith((".", "keep-")):
            await house("DELETE", f"/_inference/{id}")


def local(model: str | None = ".all-minilm-l6-v2", **more: Any) -> dict[str, Any]:
    settings = {"num_allocations": 1, "num_threads": 1, "model_id": model, **more}
    given = {key: value for key, value in settings.items() if value is not None}
    return {"service": "elasticsearch", "service_settings": given}


async def put(client: Client, id: str, body: Any, task: str = "text_embedding") -> Any:
    answer = await client("PUT", f"/_inference/{task}/{id}", body)
    assert answer.status == 200, answer.body
    return answer.json


async def refused(client: Client, method: str, path: str, body: Any = None) -> tuple[int, str]:
    answer = await client(method, path, body)
    error = answer.json["error"]
    assert answer.status >= 400
    return answer.status, error["reason"]


class TestPut:
    async def test_it_starts_the_deployment(self, client: Client) -> None:
        """Stored, running under the endpoint's own id, with what the model decides filled in."""
        made = await put(client, "mine", local())
        assert made["service_settings"] == {
            "num_allocations": 1,
            "num_threads": 1,
            "model_id": ".all-minilm-l6-v2",
            "dimensions": 384,
            "similarity": "cosine",
            "element_type": "float",
        }
        assert client.house.host.deployed("mine")

    async def test_the_elser_alias(self, client: Client) -> None:
        """Another name for sparse embeddings: a deprecation header at PUT, ``elasticsearch`` ever after; no model needed."""
        body = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}
        answer = await client("PUT", "/_inference/sparse_embedding/old", body)
        assert (answer.status, answer.json["service"]) == (200, "elasticsearch")
        assert answer.headers["warning"] == (
            '299 Elasticsearch-9.5.0 "The [elser] service is deprecated and will be removed in a future release. '
            "Use the [elasticsearch] service instead, with [model_id] set to [.elser_model_2] in the "
            '[service_settings]"'
        )
        again = await client("GET", "/_inference/old")
        assert "stand-in [.minilm-sparse]" in again.headers["warning"]
        assert "deprecated" not in again.headers["warning"]
        assert again.json["endpoints"][0]["service_settings"]["model_id"] == ".elser_model_2"

    async def test_the_elser_alias_does_nothing_else(self, client: Client) -> None:
        """Its other tasks are those of ``elasticsearch``, which needs a model for them."""
        body = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}
        status, _ = await refused(client, "PUT", "/_inference/completion/old", body)
        assert status == 400

    async def test_a_model_that_nobody_has(self, client: Client) -> None:
        """400, and nothing is stored."""
        assert await refused(client, "PUT", "/_inference/rerank/x", local("no-such-model")) == (
            400,
            "Error parsing request config, model id does not match any models available on this platform. "
            "Was [no-such-model]. You may need to load it into the cluster using eland.",
        )
        assert (await client("GET", "/_inference/x")).status == 404

    async def test_a_model_of_another_task(self, client: Client) -> None:
        """400 with the model's type and the task."""
        assert await refused(client, "PUT", "/_inference/rerank/x", local()) == (
            400,
            "Deployed model [.all-minilm-l6-v2] with type [text_embedding] does not match the requested task type "
            "[rerank]",
        )

    async def test_a_model_that_is_not_here(self, client: Client) -> None:
        """The true E5 has no stand-in: the reason says what to run, and nothing stays stored."""
        status, reason = await refused(
            client, "PUT", "/_inference/text_embedding/e5", local(".multilingual-e5-small")
        )
        assert (status, "inferd models pull" in reason) == (404, True)
        assert (await client("GET", "/_inference/e5")).status == 404

    async def test_a_start_that_is_late(self, client: Client) -> None:
        """408 when the deployment is not there within ``timeout``; the endpoint stays, and serves once it is."""
        status, reason = await refused(
            client, "PUT", "/_inference/text_embedding/late?timeout=1micros", local()
        )
        assert (status, "timed out after [1micros]" in reason) == (408, True)
        assert (await client("GET", "/_inference/late")).status == 200
        assert (await client("POST", "/_inference/late", {"input": "a"})).status == 200

    async def test_a_second_put(self, client: Client) -> None:
        """The existing endpoint and its deployment are untouched."""
        await put(client, "x", local())
        status, reason = await refused(client, "PUT", "/_inference/text_embedding/x", local())
        assert (status, reason) == (400, "Inference endpoint [x] already exists")
        assert (await client("POST", "/_inference/x", {"input": "a"})).status == 200

    async def test_two_puts_at_once(self, client: Client) -> None:
        """One is stored, the other is told that it exists; what is stored serves."""
        path = "/_inference/text_embedding/x"
        answers = await asyncio.gather(client("PUT", path, local()), client("PUT", path, local()))
        assert sorted(answer.status for answer in answers) == [200, 400]
        assert (await client("POST", "/_inference/x", {"input": "a"})).status == 200


class TestAttach:
    async def test_to_another_endpoints_deployment(self, client: Client) -> None:
        """The model and the sizes are the deployment's; the answers are the same bits."""
        await put(client, "owner", local(num_threads=2))
        body = {
            "service": "elasticsearch",
            "service_settings": {"deployment_id": "owner", "num_threads": 1, "num_allocations": 9},
        }
        made = await put(client, "guest", body)
        settings = made["service_settings"]
        assert (settings["model_id"], settings["num_threads"], settings["num_allocations"]) == (
            ".all-minilm-l6-v2",
            2,
            1,
        )
        one = await client("POST", "/_inference/owner", {"input": "sky"})
        assert (await client("POST", "/_inference/guest", {"input": "sky"})).body == one.body
        assert not client.house.host.deployed("guest")

    async def test_to_nothing(self, client: Client) -> None:
        """404 by name."""
        body = {"service": "elasticsearch", "service_settings": {"deployment_id": "nope"}}
        assert await refused(client, "PUT", "/_inference/text_embedding/x", body) == (
            404,
            "Cannot find deployment [nope]",
        )

    async def test_with_another_model(self, client: Client) -> None:
        """400 with both names."""
        await put(client, "owner", local())
        body = local(".minilm-sparse", deployment_id="owner")
        assert await refused(client, "PUT", "/_inference/sparse_embedding/x", body) == (
            400,
            "Deployment [owner] uses model [.all-minilm-l6-v2] which does not match the model [.minilm-sparse] in "
            "the request.",
        )

    async def test_a_guest_cannot_resize(self, client: Client) -> None:
        """409 that names the endpoint, the deployment and its owner; a change of nothing is a 200."""
        await put(client, "owner", local())
        body = {"service": "elasticsearch", "service_settings": {"deployment_id": "owner"}}
        await put(client, "guest", body)
        path = "/_inference/text_embedding/guest/_update"
        status, reason = await refused(client, "PUT", path, {"service_settings": {"num_allocations": 2}})
        assert (status, "[guest]" in reason, "[owner]" in reason) == (409, True, True)
        assert (await client("PUT", path, {"service_settings": {}})).status == 200

    async def test_deleting(self, client: Client) -> None:
        """A guest goes and the deployment stays; the owner goes and a guest still answers."""
        await put(client, "owner", local())
        body = {"service": "elasticsearch", "service_settings": {"deployment_id": "owner"}}
        await put(client, "guest", body)
        await put(client, "second", body)
        assert (await client("DELETE", "/_inference/second")).status == 200
        assert client.house.host.deployed("owner")
        assert (await client("DELETE", "/_inference/owner")).status == 200
        assert (await client("POST", "/_inference/guest", {"input": "a"})).status == 200


class TestUpdate:
    async def test_the_number_of_allocations(self, client: Client) -> None:
        """Shown by the answer and by GET; the deployment goes on."""
        await put(client, "x", local())
        changed = await client(
            "PUT", "/_inference/text_embedding/x/_update", {"service_settings": {"num_allocations": 2}}
        )
        assert changed.json["service_settings"]["num_allocations"] == 2
        assert (await client("GET", "/_inference/x")).json["endpoints"] == [changed.json]
        assert (await client("POST", "/_inference/x", {"input": "a"})).status == 200

    async def test_between_fixed_and_adaptive(self, client: Client) -> None:
        """The one excludes the other; an adaptive endpoint shows how many run."""
        await put(client, "x", local())
        path = "/_inference/text_embedding/x/_update"
        adaptive = {"enabled": True, "min_number_of_allocations": 1, "max_number_of_allocations": 2}
        changed = await client("PUT", path, {"service_settings": {"adaptive_allocations": adaptive}})
        settings = changed.json["service_settings"]
        assert (settings["adaptive_allocations"], settings["num_allocations"]) == (adaptive, 1)
        back = await client("PUT", path, {"service_settings": {"num_allocations": 1}})
        assert "adaptive_allocations" not in back.json["service_settings"]
        status, reason = await refused(
            client,
            "PUT",
            path,
            {"service_settings": {"num_allocations": 1, "adaptive_allocations": adaptive}},
        )
        assert (status, "can not be updated together" in reason) == (400, True)

    @pytest.mark.parametrize(
        ("adaptive", "said"),
        [
            ({"min": 1}, "[adaptive_allocations] does not allow the setting [min]"),
            ({"min_number_of_allocations": -1}, "must be a non-negative integer or null"),
            ({"max_number_of_allocations": 0}, "must be a positive integer or null"),
            (
                {"min_number_of_allocations": 3, "max_number_of_allocations": 2},
                "[min_number_of_allocations] must not be larger than [max_number_of_allocations]",
            ),
            ("many", "[adaptive_allocations] is not of the expected type"),
        ],
    )
    async def test_bad_ranges(self, client: Client, adaptive: Any, said: str) -> None:
        """400 with the rule; nothing is changed."""
        made = await put(client, "x", local())
        path = "/_inference/text_embedding/x/_update"
        status, reason = await refused(
            client, "PUT", path, {"service_settings": {"adaptive_allocations": adaptive}}
        )
        assert (status, said in reason) == (400, True)
        assert (await client("GET", "/_inference/x")).json["endpoints"] == [made]

    @pytest.mark.parametrize("change", [{"model_id": ".minilm-sparse"}, {"num_threads": 4}])
    async def test_what_is_fixed(self, client: Client, change: dict[str, Any]) -> None:
        """Model and threads cannot be changed; repeating them is no change."""
        made = await put(client, "x", local())
        path = "/_inference/text_embedding/x/_update"
        status, reason = await refused(client, "PUT", path, {"service_settings": change})
        (key,) = change
        assert (status, f"[{key}]" in reason) == (400, True)
        same = {key: made["service_settings"][key]}
        assert (await client("PUT", path, {"service_settings": same})).json == made

    async def test_return_documents(self, client: Client) -> None:
        """A stored task setting; the request's own word is stronger."""
        await put(client, "r", local(".minilm-late-interaction"), "rerank")
        path = "/_inference/rerank/r/_update"
        changed = await client("PUT", path, {"task_settings": {"return_documents": False}})
        assert changed.json["task_settings"] == {"return_documents": False}
        question = {"query": "a", "input": ["a", "b"]}
        plain = (await client("POST", "/_inference/r", question)).json["rerank"]
        assert all(set(entry) == {"index", "relevance_score"} for entry in plain)
        asked = (await client("POST", "/_inference/r", {**question, "return_documents": True})).json["rerank"]
        assert [entry["text"] for entry in asked] == ["a", "b"]


class TestDefaults:
    async def test_stand_ins_say_so(self, client: Client) -> None:
        """The default endpoints start with the first question; each answer of a stand-in has its Warning."""
        sparse = await client("POST", "/_inference/.elser-2-elasticsearch", {"input": "sky"})
        assert sparse.headers["warning"] == STAND_IN.format(name=".elser_model_2", true=".minilm-sparse")
        ranked = await client(
            "POST", "/_inference/.rerank-v1-elasticsearch", {"query": "a", "input": ["b", "a"], "top_n": 1}
        )
        assert ranked.headers["warning"] == STAND_IN.format(
            name=".rerank-v1", true=".minilm-late-interaction"
        )
        assert [entry["index"] for entry in ranked.json["rerank"]] == [1]

    async def test_true_names_do_not(self, client: Client) -> None:
        """No Warning where the name is the model's own."""
        await put(client, "x", local(".minilm-sparse"), "sparse_embedding")
        assert "warning" not in (await client("POST", "/_inference/x", {"input": "sky"})).headers

    async def test_the_true_e5_is_asked_for(self, client: Client) -> None:
        """Without its files the default endpoint is there, and its answer says what to run."""
        assert (await client("GET", "/_inference/.multilingual-e5-small-elasticsearch")).status == 200
        status, reason = await refused(
            client, "POST", "/_inference/.multilingual-e5-small-elasticsearch", {"input": "a"}
        )
        assert (status, "inferd models pull" in reason) == (404, True)

    async def test_a_forced_delete_stops_it(self, client: Client) -> None:
        """And the next question starts it again."""
        path = "/_inference/.elser-2-elasticsearch"
        assert (await client("POST", path, {"input": "sky"})).status == 200
        assert (await client("DELETE", f"{path}?force=true")).status == 200
        assert not client.house.host.deployed(".elser-2-elasticsearch")
        assert (await client("POST", path, {"input": "sky"})).status == 200

    async def test_they_cannot_be_changed(self, client: Client) -> None:
        """Their ids are none that ``_update`` takes."""
        path = "/_inference/rerank/.rerank-v1-elasticsearch/_update"
        status, reason = await refused(client, "PUT", path, {"task_settings": {"return_documents": False}})
        assert (status, "Invalid inference_id" in reason) == (400, True)


class TestDelete:
    async def test_it_stops_the_deployment(self, client: Client) -> None:
        """Gone from the store and from memory; the next question is a 404."""
        await put(client, "x", local())
        assert (await client("DELETE", "/_inference/x")).status == 200
        assert not client.house.host.deployed("x")
        assert (await client("POST", "/_inference/x", {"input": "a"})).status == 404

    async def test_a_dry_run_stops_nothing(self, client: Client) -> None:
        """The deployment goes on."""
        await put(client, "x", local())
        assert (await client("DELETE", "/_inference/x?dry_run")).json["acknowledged"] is False
        assert client.house.host.deployed("x")

    async def test_two_at_once(self, client: Client) -> None:
        """One is acknowledged, the other finds nothing."""
        await put(client, "x", local())
        answers = await asyncio.gather(*(client("DELETE", "/_inference/x") for _ in range(2)))
        assert sorted(answer.status for answer in answers) == [200, 404]

    async def test_while_it_answers(self, client: Client) -> None:
        """A question that was asked before is answered, or told that the deployment stops."""
        await put(client, "x", local())
        asking = asyncio.create_task(client("POST", "/_inference/x", {"input": ["a b c"] * 200}))
        await asyncio.sleep(0.01)
        assert (await client("DELETE", "/_inference/x")).status == 200
        assert (await asking).status in (200, 404, 409, 503)


async def test_a_restart(tmp_path: Path) -> None:
    """What was stored is served by the next process, with the first question; the same bits."""
    bodies = []
    for turn in range(2):
        async with serving(tmp_path, "http://127.0.0.1:1") as client:
            if not turn:
                await put(client, "x", local())
            else:
                assert not client.house.host.deployed("x")
            bodies.append((await client("POST", "/_inference/x", {"input": "sky"})).body)
    assert bodies[0] == bodies[1]


async def test_only_texts(client: Client) -> None:
    """What a local model cannot take is a 400, not a fault."""
    from inferd.actions import deployments
    from inferd.actions.house import Deadline
    from inferd.core.inputs import Chat, Message

    await put(client, "x", local())
    endpoint = client.house.store.get("x")
    assert endpoint is not None
    with pytest.raises(StatusError, match="only supports text inputs"):
        await deployments.run(
            client.house,
            Ask(endpoint=endpoint, inputs=Chat(messages=(Message(role="user", content="a"),))),
            Deadline.after(5),
        )
