"""The older name for sparse embeddings on Hugging Face Inference Endpoints (contract: services/hugging_face.md, index.md)."""

from inferd.core.service import Ask, Call, Service
from inferd.core.settings import API_KEY, Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import HUGGING_FACE_RULES, at
from inferd.wire import hugging_face


def _url(ask: Ask) -> str:
    return str(ask.settings["url"])


SERVICE = Service(
    name="hugging_face_elser",
    title="Hugging Face ELSER",
    listed=False,
    settings=(
        API_KEY,
        Setting(key="url", label="URL", required=True, url=True),
        Setting(key="max_input_tokens", kind=Kind.INTEGER, default=512, refused=True),
        rate_limit(3000),
    ),
    auth=bearer,
    fault=at("error"),
    rules=HUGGING_FACE_RULES,
    truncates=True,
    embedding_batch=20,
    calls={
        TaskType.SPARSE_EMBEDDING: Call(
            post=_url, body=hugging_face.inputs_body, reply=hugging_face.sparse, verb="sparse embeddings"
        )
    },
)
