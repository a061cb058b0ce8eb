"""Elastic's hosted service: listed, and refused by name."""

import pytest

from inferd.actions import get, put
from inferd.actions.house import Deadline
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.services.elastic import SERVICE

from .base import SettingsTest


class TestElastic(SettingsTest):
    service = SERVICE

    @pytest.mark.parametrize("task", SERVICE.tasks)
    async def test_put(self, task: TaskType) -> None:
        """A PUT says what cannot be had here and what to use instead, whatever the task."""
        body = {"service": "elastic", "service_settings": {"model_id": ".rainbow-sprinkles-elastic"}}
        house = self.house()
        with pytest.raises(StatusError) as caught:
            await put.put(house, "an-id", task, body, Deadline.after(5))
        assert caught.value.status == 400
        assert "cannot be used on this server" in caught.value.reason
        assert "[elasticsearch]" in caught.value.reason

    def test_listed(self) -> None:
        """_services names the service, its tasks and its settings."""
        (entry,) = get.services(self.house(), TaskType.ANY)
        assert entry["service"] == "elastic"
        assert entry["name"] == "Elastic"
        assert entry["task_types"] == [
            "sparse_embedding",
            "text_embedding",
            "rerank",
            "completion",
            "chat_completion",
            "embedding",
        ]
        assert list(entry["configurations"]) == [
            "max_input_tokens",
            "model_id",
            "rate_limit.requests_per_minute",
        ]
        assert get.services(self.house(), TaskType.EMBEDDING)
