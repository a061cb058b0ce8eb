"""What names mean: copies, aliases, true models and stand-ins."""

from collections.abc import Mapping

import pytest

from inferd.local.names import meaning
from inferd.local.shelf import ShelfError

SPLADE = "prithivida/Splade_PP_en_v1"
E5 = "intfloat/multilingual-e5-small"


def meant(name: str, aliases: Mapping[str, str] = {}, repository: Mapping[str, str] = {}) -> tuple[str, bool]:
    found = meaning(name, aliases, repository)
    assert found is not None
    return found.model.id, found.stand_in


@pytest.mark.parametrize("name", [".elser_model_2", ".elser_model_2_linux-x86_64"])
def test_a_copy_comes_before_alias_and_stand_in(name: str) -> None:
    """Who names a copy of ELSER is answered by it, without a notice, on every platform."""
    copy = {".elser_model_2": "/srv/elser"}
    assert meant(name) == (".minilm-sparse", True)
    assert meant(name, {".elser_model_2": SPLADE}) == (SPLADE, True)
    assert meant(name, {".elser_model_2": SPLADE}, copy) == (".elser_model_2", False)


def test_a_copy_of_one_name_is_none_of_another() -> None:
    """ELSER's first version stays a stand-in when only the second is here."""
    assert meant(".elser_model_1", {}, {".elser_model_2": "/srv/elser"}) == (".minilm-sparse", True)


def test_an_alias_of_the_platforms_name_is_its_own() -> None:
    """The longer name may be given to another model than the shorter one."""
    aliases = {".elser_model_2": SPLADE, ".elser_model_2_linux-x86_64": ".minilm-sparse"}
    assert meant(".elser_model_2_linux-x86_64", aliases) == (".minilm-sparse", True)


def test_aliases_lead_to_names() -> None:
    """An alias of an alias is not followed, but one of Elastic's names is; what stands in says so under any name."""
    assert meant("mine", {"mine": ".all-minilm-l6-v2"}) == (".all-minilm-l6-v2", False)
    assert meant("mine", {"mine": ".elser_model_2"}) == (".minilm-sparse", True)
    assert meant("mine", {"mine": ".elser_model_2"}, {".elser_model_2": "/x"}) == (".elser_model_2", False)
    assert meant(".multilingual-e5-small", {".multilingual-e5-small": E5}) == (E5, False)
    assert meant(".multilingual-e5-small", {".multilingual-e5-small": ".all-minilm-l6-v2"})[1]
    assert meant(".minilm-sparse", {".minilm-sparse": ".minilm-sparse"}) == (".minilm-sparse", False)


def test_what_means_nothing() -> None:
    """An unknown name is None; a setting that leads nowhere is an error that names it."""
    assert meaning("nope", {}, {}) is None
    with pytest.raises(ShelfError, match=r'models.aliases."mine" names \[Splade_PP_en_v1\].*did you mean'):
        meaning("mine", {"mine": "Splade_PP_en_v1"}, {})
    with pytest.raises(ShelfError, match="no model of the catalogue"):
        meaning("mine", {}, {"mine": "someone/else"})
