"""The older name for sparse embeddings on Hugging Face."""

import msgspec

from inferd.core.inputs import Texts
from inferd.core.tasks import TaskType
from inferd.services.hugging_face_elser import SERVICE

from .base import Bad, Case, Change, Refusal, ServiceTest

SPARSE = TaskType.SPARSE_EMBEDDING
SETTINGS = {"api_key": "hf_very-secret", "url": "{fake}/elser"}
FOR = "for request from inference entity id [my-endpoint]"


class TestHuggingFaceElser(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 502, 503})

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"error": message})

    cases = (
        Case(
            task=SPARSE,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/elser",
            headers={"authorization": "Bearer hf_very-secret"},
            request={"inputs": ["how big"]},
            reply=[{"how": 0.25, "big": 1.5}],
            answer={"sparse_embedding": [{"is_truncated": False, "embedding": {"big": 1.5, "how": 0.25}}]},
            shown={
                "url": "{fake}/elser",
                "max_input_tokens": 512,
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
    )
    bad = (
        Bad(
            SPARSE,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [url]",
            ),
        ),
    )
    changes = (
        Change(task=SPARSE, stored=SETTINGS, service_settings={"api_key": "b"}, secrets={"api_key": "b"}),
    )
    refusals = (
        Refusal(
            task=SPARSE,
            status=503,
            becomes=400,
            body={"error": "loading"},
            reason=f"Received a rate limit status code {FOR} status [503]. Error message: [loading]",
            attempts=3,
        ),
    )

    def test_not_listed(self) -> None:
        """The name is kept for those who have it; nobody is offered it."""
        assert not SERVICE.listed
