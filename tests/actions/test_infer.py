"""What is checked between a provider's answer and the client."""

import numpy as np
import pytest

from inferd.actions.infer import complete
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Contents, Item, RankQuery, Texts
from inferd.core.results import Completion, Embeddings, Ranked, Ranking, Sparse
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


@pytest.mark.parametrize("index", [-2, 2, 2**70])
def test_a_ranked_document_was_asked_for(index: int) -> None:
    """A place outside the request is no document; -1 stands for one that the provider did not name."""
    question = RankQuery(query="q", documents=("a", "b"))
    fine = Ranking(items=(Ranked(index=1, score=0.5), Ranked(index=0, score=0.25)))
    assert complete(ENDPOINT, question, fine) is fine
    nameless = Ranking(items=(Ranked(index=-1, score=-1.0),))
    assert complete(ENDPOINT, question, nameless) is nameless
    with pytest.raises(StatusError, match=rf"ranked a document \[{index}\] of \[2\]") as caught:
        complete(ENDPOINT, question, Ranking(items=(*fine.items, Ranked(index=index, score=0.125))))
    assert caught.value.status == 500
