"""The Elasticsearch dialect: each handler reads a request, asks who may, calls one action, renders its result.

Order inside a handler (api.md 1.2): parameters, then validation of the request object, then authorisation, then the action. Bodies of POST are
parsed after authorisation.
"""

from typing import Any

from inferd.actions import delete, deployments, get, infer, put, regions, stream, update
from inferd.actions.house import Deadline, House
from inferd.api import sse
from inferd.api.elastic import bodies, events, problems, render
from inferd.api.elastic.params import Duration, Params
from inferd.api.guard import Guard
from inferd.api.http import Request, Response
from inferd.core.endpoint import Endpoint, check_id
from inferd.core.inputs import Chat, Inputs
from inferd.core.tasks import CHATS, TaskType, default_timeout
from inferd.errors import InferdError, NotRouted

_PUT_TIMEOUT = Duration(30.0, "30s")


class Elastic:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.house = house
        self.guard = guard
        self.version = house.config.api.version

    # What a request names

    def _task(self, request: Request) -> TaskType:
        task = request.path_params.get("task")
        return TaskType.ANY if task is None else TaskType.parse(task)

    def _deadline(self, params: Params, task: TaskType) -> Deadline:
        given = params.duration("timeout")
        if given is None or given.seconds <= 0:
            seconds = default_timeout(task)
            return Deadline.after(seconds, f"{seconds:.0f}s")
        return Deadline.after(given.seconds, given.text)

    def _put_deadline(self, params: Params) -> Deadline:
        given = params.duration("timeout") or _PUT_TIMEOUT
        params.duration("master_timeout")
        if given.seconds <= 0:
            given = _PUT_TIMEOUT
        return Deadline.after(given.seconds, given.text)

    def _object(self, endpoint: Endpoint) -> dict[str, Any]:
        return render.endpoint_object(endpoint, get.shown_settings(self.house, endpoint))

    # Endpoints

    async def list_all(self, request: Request) -> Response:
        Params(request).finish()
        task = self._task(request)
        self.guard.authorise_list(request)
        return await self._listing(request, task)

    async def _listing(self, request: Request, task: TaskType) -> Response:
        found = get.listing(self.house, task, self.guard.visible(request))
        return await render.reply(request, {"endpoints": [self._object(e) for e in found]})

    async def get(self, request: Request) -> Response:
        Params(request).finish()
        task, id = self._task(request), request.path_params["id"]
        if id in ("_all", "*"):
            self.guard.authorise_list(request)
            return await self._listing(request, task)
        self.guard.authorise(request, id)
        endpoint = get.get(self.house, id, task)
        return await render.reply(
            request, {"endpoints": [self._object(endpoint)]}, headers=self._notices(endpoint)
        )

    async def put(self, request: Request) -> Response:
        params = Params(request)
        deadline = self._put_deadline(params)
        task = self._task(request)
        params.finish()
        body = await bodies.settings(request)
        id = request.path_params["id"]
        check_id(id)
        self.guard.authorise(request, id)
        old_name = body.get("service")
        endpoint = await put.put(self.house, id, task, body, deadline)
        self.guard.audit(request, endpoint.id, "created")
        headers = [*self._notices(endpoint), *self._deprecation(endpoint, old_name)]
        return await render.reply(request, self._object(endpoint), headers=headers)

    def _deprecation(self, endpoint: Endpoint, name: Any) -> list[tuple[str, str]]:
        text = self.house.services[endpoint.service].deprecated_aliases.get(str(name))
        return [] if text is None else [("Warning", render.warning(self.version, text))]

    def _notices(self, endpoint: Endpoint) -> list[tuple[str, str]]:
        """What the exact body has no place for: that a stand-in answers."""
        found = deployments.notices(self.house, endpoint)
        return [("Warning", render.warning(self.version, notice)) for notice in found]

    async def update(self, request: Request) -> Response:
        params = Params(request)
        deadline = self._put_deadline(params)
        task = self._task(request)
        params.finish()
        body = await bodies.settings(request)
        id = request.path_params["id"]
        check_id(id)
        self.guard.authorise(request, id)
        endpoint = await update.update(self.house, id, task, body, deadline)
        self.guard.audit(request, endpoint.id, "updated")
        return await render.reply(request, self._object(endpoint), headers=self._notices(endpoint))

    async def delete(self, request: Request) -> Response:
        params = Params(request)
        dry_run, force = params.boolean("dry_run"), params.boolean("force")
        task = self._task(request)
        params.finish()
        id = request.path_params["id"]
        self.guard.authorise(request, id)
        deletion = await delete.delete(self.house, id, task, dry_run=dry_run, force=force)
        self.guard.audit(request, id, "deleted" if deletion.acknowledged else "dry run")
        body: dict[str, Any] = {
            "acknowledged": deletion.acknowledged,
            "pipelines": deletion.pipelines,
            "indexes": deletion.indexes,
        }
        if deletion.error_message is not None:
            body["error_message"] = deletion.error_message
        return await render.reply(request, body)

    # Inference

    async def infer(self, request: Request) -> Response:
        params = Params(request)
        task = self._task(request)
        params.duration("timeout")
        params.finish()
        id = request.path_params["id"]
        self.guard.authorise(request, id)
        try:
            return await self._infer(request, params, task, id)
        except InferdError as error:
            if self._is_chat(task, id):
                return problems.chat_problem(request, error)
            raise

    def _is_chat(self, task: TaskType, id: str) -> bool:
        """Whether a failure is told in the chat envelope: the request is known to be chat completion (api.md 7.5)."""
        if task is TaskType.CHAT_COMPLETION:
            return True
        endpoint = self.house.store.get(id)
        return task is TaskType.ANY and endpoint is not None and endpoint.task is TaskType.CHAT_COMPLETION

    async def _infer(self, request: Request, params: Params, task: TaskType, id: str) -> Response:
        endpoint, inputs, task_settings = await self._question(request, task, id)
        deadline = self._deadline(params, endpoint.task)
        if isinstance(inputs, Chat):
            answer = await stream.chat(self.house, endpoint, task, inputs, deadline)
            content = await render.result(answer, endpoint.task, endpoint.id)
            return await render.reply(request, content, headers=render.facts(answer, self.version))
        result = await infer.infer(self.house, endpoint, task, inputs, task_settings, deadline)
        content = await render.result(result, endpoint.task, endpoint.id)
        return await render.reply(request, content, headers=render.facts(result, self.version))

    async def _question(
        self, request: Request, task: TaskType, id: str
    ) -> tuple[Endpoint, Inputs, dict[str, Any]]:
        """Typed paths: the body first, then the endpoint; untyped ones the other way round (api.md 6.1)."""
        if task is TaskType.ANY:
            endpoint = get.find(self.house, id)
            inputs, task_settings = await bodies.question(request, endpoint.task, typed=False)
            return endpoint, inputs, task_settings
        inputs, task_settings = await bodies.question(request, task, typed=True)
        return get.find(self.house, id), inputs, task_settings

    # Streams

    async def stream(self, request: Request) -> Response:
        params = Params(request)
        task = self._task(request)
        params.duration("timeout")
        params.finish()
        id = request.path_params["id"]
        try:
            self.guard.authorise(request, id)
        except InferdError as error:
            return events.failure(error, chat=False, options=self._options())
        try:
            return await self._stream(request, params, task, id)
        except NotRouted:
            raise
        except InferdError as error:
            return events.failure(error, chat=self._is_chat(task, id), options=self._options())

    async def _stream(self, request: Request, params: Params, task: TaskType, id: str) -> Response:
        endpoint, inputs, task_settings = await self._question(request, task, id)
        service, call = infer.service_and_call(self.house, endpoint)
        deadline = self._deadline(params, endpoint.task)
        infer.check_task(endpoint, task)
        if endpoint.task in (TaskType.RERANK, TaskType.EMBEDDING):
            result = await infer.infer(self.house, endpoint, task, inputs, task_settings, deadline)
            content = await render.result(result, endpoint.task, endpoint.id)
            return events.whole(content, self._options(), headers=render.facts(result, self.version))
        if endpoint.task not in CHATS or call.chunks is None:
            stream.check_streams(service, endpoint, task)
        opening = stream.stream(self.house, endpoint, task, inputs, task_settings, deadline)
        shape = self._options()
        chunks = await sse.opened(opening, shape.heartbeat)
        if endpoint.task is TaskType.CHAT_COMPLETION:
            return events.chat(chunks, shape)
        return events.completion(chunks, shape)

    def _options(self) -> events.Options:
        api = self.house.config.api
        return events.Options(bom=api.sse_bom, heartbeat=api.stream_heartbeat or None)

    # The rest

    async def services(self, request: Request) -> Response:
        Params(request).finish()
        task = self._task(request)
        self.guard.authorise_list(request)
        return await render.reply(request, get.services(self.house, task))

    async def diagnostics(self, request: Request) -> Response:
        Params(request).finish()
        self.guard.authorise(request)
        pool = self.house.upstream.pool()
        idle = dict.fromkeys(pool, 0)
        node = {
            "external": {"connection_pool_stats": pool},
            "eis_mtls": {"connection_pool_stats": idle},
            "inference_endpoint_registry": {
                "cache_count": len(self.house.store.all()),
                "cache_hits": 0,
                "cache_misses": 0,
                "cache_evictions": 0,
            },
        }
        return await render.reply(request, {self.house.node_id: node})

    async def get_region_policy(self, request: Request) -> Response:
        Params(request).finish()
        self.guard.authorise(request)
        return await render.reply(request, regions.present(regions.get(self.house)))

    async def put_region_policy(self, request: Request) -> Response:
        params = Params(request)
        params.boolean("force")
        params.finish()
        policy = await bodies.region_policy(request)
        self.guard.authorise(request)
        stored = await regions.put(self.house, policy, self.guard.user(request))
        self.guard.audit(request, "_region_policy", "updated")
        return await render.reply(request, regions.present(stored))

    async def delete_region_policy(self, request: Request) -> Response:
        Params(request).finish()
        self.guard.authorise(request)
        await regions.delete(self.house)
        self.guard.audit(request, "_region_policy", "deleted")
        return await render.reply(request, {"acknowledged": True})

    async def ccm(self, request: Request) -> Response:
        params = Params(request)
        params.duration("timeout")
        params.duration("master_timeout")
        params.finish()
        if request.method == "PUT":
            await bodies.ccm(request)
        self.guard.authorise(request)
        raise regions.ccm_forbidden()

    async def root(self, request: Request) -> Response:
        Params(request).finish()
        self.guard.authorise(request)
        api = self.house.config.api
        return await render.reply(
            request, root_body(api.version, api.node_name, api.cluster_name, self.house)
        )


def root_body(version: str, node: str, cluster: str, house: House) -> dict[str, Any]:
    """``GET /`` (api.md 13)."""
    return {
        "name": node,
        "cluster_name": cluster,
        "cluster_uuid": house.cluster_id,
        "version": {
            "number": version,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": "inferd",
            "build_date": "2026-11-23T00:00:00.000Z",
            "build_snapshot": False,
            "lucene_version": "10.4.0",
            "minimum_wire_compatibility_version": "8.19.0",
            "minimum_index_compatibility_version": "8.0.0",
        },
        "tagline": "You Know, for Search",
    }
