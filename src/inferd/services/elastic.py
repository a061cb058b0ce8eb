"""Elastic's hosted inference service: known by name, out of reach from here (contract: services/elastic.md)."""

from msgspec.structs import replace

from inferd.core.service import Service
from inferd.core.settings import MODEL_ID, Kind, Setting, rate_limit
from inferd.core.tasks import EMBEDDINGS, TaskType

SERVICE = Service(
    name="elastic",
    title="Elastic",
    settings=(
        replace(MODEL_ID, description="Model name."),
        Setting(
            key="max_input_tokens",
            kind=Kind.INTEGER,
            positive=True,
            label="Maximum Input Tokens",
            description="Allows you to specify the maximum number of tokens per input.",
            tasks=EMBEDDINGS,
        ),
        rate_limit({TaskType.SPARSE_EMBEDDING: 1000, TaskType.CHAT_COMPLETION: 240}),
    ),
    tasks=(
        TaskType.SPARSE_EMBEDDING,
        TaskType.TEXT_EMBEDDING,
        TaskType.RERANK,
        TaskType.COMPLETION,
        TaskType.CHAT_COMPLETION,
        TaskType.EMBEDDING,
    ),
    calls={},
    unavailable="The [elastic] service is hosted by Elastic and only reached from Elastic's own deployments; it cannot be "
    "used on this server. Use the [elasticsearch] service for models on this machine, or the service of a provider, "
    "for example [jinaai], [openai] or [anthropic]; GET _inference/_services lists all of them.",
)
