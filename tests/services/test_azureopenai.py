"""Azure OpenAI: what we send, what we make of the reply."""

from urllib.parse import parse_qs

from inferd.core.inputs import InputType, Texts
from inferd.core.tasks import TaskType
from inferd.services.azureopenai import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION, CHAT = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION

PLACE = {"resource_name": "my-resource", "deployment_id": "my-deployment", "api_version": "2024-02-01"}
SETTINGS = {"api_key": "az-very-secret", **PLACE}
OAUTH2 = {
    **PLACE,
    "client_secret": "very-secret",
    "client_id": "an-app",
    "tenant_id": "my-tenant",
    "scopes": ["https://cognitiveservices.azure.com/.default"],
}
KEY = {"api-key": "az-very-secret"}
EMBED = "/openai/deployments/my-deployment/embeddings"
TALK = "/openai/deployments/my-deployment/chat/completions"
VERSION = "api-version=2024-02-01"
TOKEN_PATH = "/my-tenant/oauth2/v2.0/token"
FOR = "for request from inference entity id [my-endpoint]"
ONE_SECRET = "[secret_settings] must have exactly one of [api_key], [entra_id], or [client_secret] field set"
TOGETHER = "[service_settings] all OAuth2 fields must be provided together; missing: "
NOT_OAUTH2 = (
    "Cannot update OAuth2 fields as the service was not configured with OAuth2 settings. "
    "Please create a new Inference Endpoint with the OAuth2 settings instead."
)


class TestAzureOpenai(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "dimensions": 2,
                "max_input_tokens": 100,
                "similarity": "cosine",
                "rate_limit": {"requests_per_minute": 60000},
            },
            task_settings={"user": "me", "headers": {"X-Mine": "1"}},
            inputs=Texts(("how big", "how small"), InputType.INGEST),
            path=EMBED,
            query=VERSION,
            headers={**KEY, "x-mine": "1"},
            request={
                "input": ["how big", "how small"],
                "user": "me",
                "input_type": "ingest",
                "dimensions": 2,
                "encoding_format": "base64",
            },
            reply={
                "data": [{"embedding": "AAAAPwAAgL4="}, {"embedding": [1, 2]}],
                "usage": {"prompt_tokens": 1},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                **PLACE,
                "dimensions": 2,
                "max_input_tokens": 100,
                "similarity": "cosine",
                "rate_limit": {"requests_per_minute": 60000},
            },
            shown_task={"user": "me", "headers": {"X-Mine": "1"}},
        ),
        Case(
            task=TEXT,
            service_settings={"entra_id": "entra-very-secret", **PLACE, "deployment_id": "a/../b?c#d"},
            inputs=Texts(("how big",), InputType.UNSPECIFIED),
            path="/openai/deployments/a%2F..%2Fb%3Fc%23d/embeddings",
            query=VERSION,
            headers={"authorization": "Bearer entra-very-secret"},
            request={"input": ["how big"], "encoding_format": "base64"},
            reply={"data": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                **PLACE,
                "deployment_id": "a/../b?c#d",
                "dimensions": 1,
                "similarity": "dot_product",
                "rate_limit": {"requests_per_minute": 1440},
            },
        ),
        Case(
            task=COMPLETION,
            service_settings=OAUTH2,
            inputs=chat.PROMPT,
            path=TALK,
            query=VERSION,
            headers={"authorization": "Bearer a-token"},
            others={TOKEN_PATH: {"access_token": "a-token", "expires_in": 3600}},
            request=chat.prompt(),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={
                **PLACE,
                "rate_limit": {"requests_per_minute": 120},
                "client_id": "an-app",
                "tenant_id": "my-tenant",
                "scopes": ["https://cognitiveservices.azure.com/.default"],
            },
            stream=(
                {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
                *chat.STREAM,
            ),
            stream_request=chat.prompt(stream=True, stream_options=chat.USAGE),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            task_settings={"user": "me"},
            inputs=chat.QUESTION,
            path=TALK,
            query=VERSION,
            headers=KEY,
            request=chat.question(tokens="max_completion_tokens", user="me"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={**PLACE, "rate_limit": {"requests_per_minute": 120}},
            shown_task={"user": "me"},
            stream=(
                {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
                *chat.STREAM,
            ),
            stream_request=chat.question(
                tokens="max_completion_tokens", user="me", stream=True, stream_options=chat.USAGE
            ),
            chunks=[
                {"id": "", "choices": [], "model": "", "object": "chat.completion.chunk"},
                *chat.CHUNKS,
            ],
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.SHORT,
            path=TALK,
            query=VERSION,
            headers=KEY,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                *(
                    f"[service_settings] does not contain the required setting [{key}]"
                    for key in ("resource_name", "deployment_id", "api_version")
                ),
                ONE_SECRET,
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "entra_id": "e"},
            faults=(f"{ONE_SECRET}, received: [api_key, entra_id]",),
        ),
        Bad(
            TEXT,
            {**OAUTH2, "entra_id": "e", "api_key": "a"},
            faults=(f"{ONE_SECRET}, received: [api_key, entra_id, client_secret]",),
        ),
        Bad(
            TEXT,
            {**PLACE, "client_secret": "s", "tenant_id": "t"},
            faults=(f"{TOGETHER}[client_id, scopes]",),
        ),
        Bad(TEXT, {**SETTINGS, "scopes": ["s"]}, faults=(f"{TOGETHER}[client_id, tenant_id]",)),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions_set_by_user": True},
            faults=("[service_settings] does not allow the setting [dimensions_set_by_user]",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "entra_id": "", "dimensions": 0, "max_input_tokens": 0, "similarity": "x"},
            faults=(
                "[secret_settings] Invalid value empty string. [entra_id] must be a non-empty string",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
            ),
        ),
        Bad(
            TEXT,
            SETTINGS,
            {"user": ""},
            faults=("[task_settings] Invalid value empty string. [user] must be a non-empty string",),
        ),
        Bad(
            COMPLETION,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 0}},
            faults=("[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",),
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"max_input_tokens": 5, "rate_limit": {"requests_per_minute": 7}},
            task_settings={"user": "me"},
            shown={**PLACE, "max_input_tokens": 5, "rate_limit": {"requests_per_minute": 7}},
            shown_task={"user": "me"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"entra_id": "new"},
            secrets={"entra_id": "new", "api_key": None},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"entra_id": "new", "api_key": "new"},
            faults=(f"{ONE_SECRET}, received: [api_key, entra_id]",),
        ),
        Change(task=TEXT, stored=SETTINGS, service_settings={"client_secret": "s"}, faults=(NOT_OAUTH2,)),
        Change(task=TEXT, stored=SETTINGS, service_settings={"tenant_id": "s"}, faults=(NOT_OAUTH2,)),
        Change(
            task=COMPLETION,
            stored=OAUTH2,
            service_settings={"client_secret": "new", "tenant_id": "another"},
            shown={
                **PLACE,
                "rate_limit": {"requests_per_minute": 120},
                "client_id": "an-app",
                "tenant_id": "another",
                "scopes": ["https://cognitiveservices.azure.com/.default"],
            },
            secrets={"client_secret": "new"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"deployment_id": "another"},
            faults=("[service_settings] does not allow the setting [deployment_id]",),
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=429,
            headers={"x-ratelimit-remaining-tokens": "7", "x-ratelimit-remaining-requests": "0"},
            reason="Received a rate limit status code. Token limit [unknown], remaining tokens [7]. "
            f"Request limit [unknown], remaining requests [0] {FOR} status [429]",
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=400,
            body={"error": {"message": "Please reduce your prompt; or completion length."}},
            reason=f"Received a content too large status code {FOR} status [400]. "
            "Error message: [Please reduce your prompt; or completion length.]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=404,
            body={"error": {"code": "DeploymentNotFound", "message": "no deployment"}},
            reason=f"Resource not found at [{{url}}] {FOR} status [404]. Error message: [no deployment]",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {"message": "filtered", "type": "t", "param": "prompt", "code": "content_filter"}},
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [filtered]",
            kind="t",
            code="content_filter",
            param="prompt",
        ),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        case = next(case for case in self.cases if case.task is COMPLETION)
        error = await self.refused(case, fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Azure OpenAI completion only accepts 1 input")

    async def test_token_is_fetched_from_the_tenant(self, fake: FakeUpstream) -> None:
        """The token request is a form with the grant, the client and its scopes."""
        case = next(case for case in self.cases if case.others)
        self.answer(case, fake)
        await self.ask(case, fake)
        token = fake.requests[0]
        assert token.path == TOKEN_PATH
        assert parse_qs(token.body.decode()) == {
            "grant_type": ["client_credentials"],
            "client_id": ["an-app"],
            "client_secret": ["very-secret"],
            "scope": ["https://cognitiveservices.azure.com/.default"],
        }

    def test_rate_limit_is_shared_by_resource_deployment_and_credentials(self) -> None:
        """Nothing else tells two endpoints apart."""
        group = SERVICE.group
        assert group is not None
        one = group(self.endpoint(TEXT, SETTINGS))
        assert one == group(self.endpoint(TEXT, {**SETTINGS, "api_version": "2025-01-01"}))
        for key in ("api_key", "resource_name", "deployment_id"):
            assert one != group(self.endpoint(TEXT, {**SETTINGS, key: "another"}))
