"""Texts into token ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tokenizer
from tokenizers import processors

from inferd.local.host import TOKENIZER
from inferd.local.shelf import BUNDLED
from inferd.local.tokens import Tokenizer, clean, pieces, until

MINILM = Tokenizer.load(BUNDLED / TOKENIZER)
TINY = Tokenizer(tokenizer())


def test_a_text_is_wrapped_in_the_models_own_special_tokens() -> None:
    """The ids are those that the tokenizer itself gives."""
    own = tokenizer().encode("a b").ids
    found = TINY.encode("a b", 12)
    assert (found.ids, found.given, found.truncated) == (own, 4, False)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.integers(2, 40))
def test_what_is_given_is_what_is_used_and_what_is_dropped(text: str, limit: int) -> None:
    """No text is cut without being counted, none is longer than the limit, and none has no tokens."""
    whole = MINILM.encode(text, 10_000)
    cut = MINILM.encode(text, limit)
    assert cut.given == whole.given == len(whole.ids) >= 2
    assert len(cut.ids) == min(limit, whole.given)
    assert cut.truncated == (whole.given > limit)
    assert cut.ids[-1] == whole.ids[-1]


def test_a_huge_text_is_read_in_pieces_with_the_same_tokens() -> None:
    """Pieces are cut at white space, so a text read piece by piece has the tokens of the whole."""
    text = "The unbelievable aeroelasticity of swept wings, at 3.5 degrees! " * 1000
    whole = MINILM._tokenizer.encode(text).ids
    found = MINILM.encode(text, 300)
    assert found.given == len(whole)
    assert found.ids == [*whole[:299], whole[-1]]


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 30))
def test_pieces_are_the_text(text: str, size: int) -> None:
    """Nothing is lost between pieces and none is too long."""
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert all(len(piece) <= size for piece in cut)


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "a\udfffb", "🙂" * 50, "\u202e\ufeff", "é" * 5000])
def test_hostile_texts_have_tokens(text: str) -> None:
    """Nothing that a JSON string can hold breaks the tokenizer."""
    found = MINILM.encode(text, 256)
    assert found.ids[0] == 101
    assert found.ids[-1] == 102


def test_a_lone_surrogate_is_one_replacement_character() -> None:
    """Pairs are kept, halves are replaced."""
    assert clean("a\ud83d\ude42\ud800b") == "a🙂\ufffdb"


def test_a_pair_has_the_token_types_of_its_tokenizer() -> None:
    """Two texts are put together as the tokenizer does it."""
    own = tokenizer().encode("a b", "c d e")
    (found,) = TINY.pair_pieces(TINY.bare("a b", 9)[0], "c d e", 12, 1)
    assert (found.ids, found.types, found.given) == (own.ids, own.type_ids, 8)


def test_a_long_second_text_becomes_pieces() -> None:
    """Each piece carries the first text; what no piece holds is counted on the last."""
    made = TINY.pair_pieces([4], "a b c d e f g h i j k l m n o", 8, 2)
    assert [len(piece.ids) for piece in made] == [8, 8]
    assert [piece.given for piece in made] == [8, 8 + 15 - 8]
    assert all(piece.ids[:3] == [2, 4, 3] for piece in made)


def test_a_long_text_becomes_pieces() -> None:
    """Pieces hold the text in order; an empty text is one piece."""
    made = TINY.encode_pieces("a b c d e", 4, 9)
    assert [piece.ids for piece in made] == [[2, 4, 5, 3], [2, 6, 7, 3], [2, 8, 3]]
    assert sum(piece.given for piece in made) == sum(len(piece.ids) for piece in made)
    assert [piece.ids for piece in TINY.encode_pieces("", 4, 9)] == [[2, 3]]


def test_a_tokenizer_without_special_tokens_reads_nothing_as_something() -> None:
    """An empty text is one token, so that every text has a batch to go to."""
    made = tokenizer()
    made.post_processor = processors.Sequence([])
    bare = Tokenizer(made)
    assert (bare.encode("", 9).ids, bare.encode("a", 9).ids) == ([0], [4])


def test_a_huge_text_is_given_up_when_nobody_waits() -> None:
    """Between two pieces of one text it is asked whether somebody still waits."""
    asked = 0

    def over() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with until(over), pytest.raises(TimeoutError):
        MINILM.encode("word " * 100_000, 256)
    assert asked == 3
    assert MINILM.encode("word " * 10_000, 256).given == 10_002
