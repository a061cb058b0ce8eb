"""``inferd demo``, really: a server, the official client, the bundled models, and a provider for completion."""

import re

from serverprocess import inferd, provider


def test_without_a_provider() -> None:
    """Three kinds of inference with real output, stand-ins named; completion says in one line what it needs."""
    done = inferd("demo", timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    sections = re.split(
        r"^(?=(?:sparse_embedding|rerank|text_embedding|completion)  )", done.stdout, flags=re.MULTILINE
    )
    start, sparse, rerank, dense, completion = sections
    assert "ready after" in start
    weights = dict(re.findall(r"(\w+) (\d\.\d\d)", sparse.split("\n", 1)[1]))
    assert {"sky", "port", "television"} <= set(weights)
    assert "stand-in" in sparse
    assert re.search(r"^\s+luke 0\.\d\d", rerank, flags=re.MULTILINE)
    assert "384 dimensions" in dense
    assert completion.startswith("completion  skipped: set OPENAI_API_KEY")
    assert len(completion.strip().splitlines()) <= 2


def test_with_a_provider() -> None:
    """Completion is answered by any OpenAI-compatible server; its key is shown nowhere."""
    with provider() as running:
        done = inferd(
            "demo", "--openai-url", f"{running.url}/openai/chat", timeout=110, OPENAI_API_KEY="sk-planted"
        )
        asked = [(headers["Authorization"], body["model"]) for _, headers, body in running.asked]
    assert (done.returncode, done.stderr) == (0, "")
    assert "WHAT IS ELASTIC?" in done.stdout
    assert "sk-planted" not in done.stdout
    assert asked[-1] == ("Bearer sk-planted", "gpt-4o-mini")


def test_a_provider_that_refuses() -> None:
    """The rest was shown; then one plain line with the provider's reason, status 1, and no server left behind."""
    with provider() as running:
        done = inferd("demo", "--no-security", "--openai-url", f"{running.url}/nowhere", timeout=110)
    assert "384 dimensions" in done.stdout
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no such model" in done.stderr
