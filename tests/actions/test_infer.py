"""What is checked between a provider's answer and the client."""

import numpy as np
import pytest

from inferd.actions.infer import complete
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Contents, Item, Texts
from inferd.core.results import Completion, Embeddings, Sparse
from inferd.core.tasks import TaskType
from inferd.errors import StatusError

ENDPOINT = Endpoint(id="e", task=TaskType.TEXT_EMBEDDING, service="acme", settings={})
ONE = Embeddings(vectors=np.zeros((1, 2), dtype=np.float32))


def test_fewer_vectors_than_inputs_are_refused() -> None:
    """They could belong to any of the inputs."""
    for inputs in (Texts(("a", "b")), Contents(((Item("a"),), (Item("b"),)))):
        with pytest.raises(StatusError, match=r"gave \[1\] embeddings for \[2\] inputs"):
            complete(ENDPOINT, inputs, ONE)
    with pytest.raises(StatusError):
        complete(ENDPOINT, Texts(("a",)), Sparse(vectors=()))


def test_one_vector_an_input_passes() -> None:
    """And so does what has no vectors."""
    assert complete(ENDPOINT, Texts(("a",)), ONE) is ONE
    text = Completion(texts=("x",))
    assert complete(ENDPOINT, Texts(("a", "b")), text) is text
