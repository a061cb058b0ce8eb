"""The task types (api.md section 4)."""

from enum import StrEnum

from inferd.errors import StatusError


class TaskType(StrEnum):
    TEXT_EMBEDDING = "text_embedding"
    SPARSE_EMBEDDING = "sparse_embedding"
    RERANK = "rerank"
    COMPLETION = "completion"
    CHAT_COMPLETION = "chat_completion"
    EMBEDDING = "embedding"
    ANY = "any"

    @classmethod
    def parse(cls, text: str) -> "TaskType":
        """Any letter case, blanks around it allowed; anything else is a 400."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise StatusError(400, f"Unknown task_type [{text}]") from None


EMBEDDINGS = frozenset({TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING, TaskType.EMBEDDING})
DENSE = frozenset({TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING})
CHATS = frozenset({TaskType.COMPLETION, TaskType.CHAT_COMPLETION})


def default_timeout(task: TaskType) -> float:
    """Seconds; api.md 10.2 (9.5 line)."""
    return 120.0 if task in CHATS else 30.0
