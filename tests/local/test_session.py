"""Weights, and who may run them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from inferd.core.results import Float32s
from inferd.local.batches import Lane
from inferd.local.session import Weights


class Program:
    """Counts the sessions it made."""

    width = 2

    def __init__(self) -> None:
        self.made = 0

    def session(self) -> "Program":
        self.made += 1
        return self

    def run(self, *inputs: object) -> Float32s:
        return np.zeros(1, np.float32)


def test_weights_are_loaded_once_by_whoever_is_first() -> None:
    """Ten threads that need them at the same time load them once."""
    loaded = []

    def load() -> Program:
        time.sleep(0.02)
        loaded.append(Program())
        return loaded[-1]

    weights = Weights(load)
    with ThreadPoolExecutor(10) as threads:
        for future in [threads.submit(weights.open) for _ in range(10)]:
            future.result()
    assert len(loaded) == 1


def test_sessions_are_lent_up_to_the_width_and_used_again() -> None:
    """A third lease waits until one is given back; no third session is made."""
    program = Program()
    weights = Weights(lambda: program)
    got = threading.Event()

    def third() -> None:
        with weights.lease(Lane.SEARCH):
            got.set()

    with ExitStack() as two:
        two.enter_context(weights.lease(Lane.SEARCH))
        two.enter_context(weights.lease(Lane.SEARCH))
        waiting = threading.Thread(target=third)
        waiting.start()
        assert not got.wait(0.05)
    waiting.join(5)
    assert got.is_set()
    assert program.made == 2


def test_ingest_leaves_a_session_to_searches_while_there_are_any() -> None:
    """Without searches ingest may use every session; after one it keeps off the last."""
    weights = Weights(Program)
    with weights.lease(Lane.INGEST), weights.lease(Lane.INGEST):
        pass
    with weights.lease(Lane.SEARCH):
        pass
    got = threading.Event()

    def second() -> None:
        with weights.lease(Lane.INGEST):
            got.set()

    with weights.lease(Lane.INGEST):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not got.wait(0.05)
        with weights.lease(Lane.SEARCH):
            pass
    waiting.join(5)
    assert got.is_set()
