"""What a name means here: which model answers to it, and whether that is a stand-in.

First comes the user's own copy (``models.repository``), then the user's word (``models.aliases``), then a model of that
name, then the free model or the stand-in for a name of Elastic's.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct

from inferd.local import directories
from inferd.local.catalogue import ELASTIC, MODELS, STAND_INS, TRUE_NAMES, Model, find
from inferd.local.shelf import ShelfError

_PLATFORM = "_linux-x86_64"
"""Elastic's names with this behind them are the same models, made ready for one platform."""


class Meaning(Struct, frozen=True):
    """The model that answers to a name. A stand-in has other weights than the name promises."""

    model: Model
    stand_in: bool


def named(id: str, repository: Mapping[str, str]) -> Model | None:
    """The row of that id: of the catalogue, of Elastic's where a copy is named, or of a directory of the user's own.
    ShelfError when that directory holds no model."""
    if (known := find(id)) is not None:
        return known
    place = repository.get(id)
    if place is None:
        return None
    if (theirs := next((model for model in ELASTIC if model.id == id), None)) is not None:
        return theirs
    if not is_directory(place):
        raise ShelfError(
            f'models.repository."{id}" names [{place}], but [{id}] is no model of the catalogue: such a model is read '
            "from a directory, which starts with / or ./"
        )
    return directories.read(id, Path(place).expanduser())


def is_directory(origin: str) -> bool:
    """Whether a value of models.repository is a directory here, no hub repository."""
    return origin.startswith(("/", "./", "../", "~"))


def meaning(name: str, aliases: Mapping[str, str], repository: Mapping[str, str]) -> Meaning | None:
    """None when nothing here has that name. ShelfError as for ``named``."""
    base = name.removesuffix(_PLATFORM) if name in STAND_INS or name in TRUE_NAMES else name
    for own in (name, base):
        if own in repository and (model := named(own, repository)) is not None:
            return Meaning(model, stand_in=False)
    target = aliases.get(name, aliases.get(base))
    if target is None or target == name:
        target = TRUE_NAMES.get(name) or STAND_INS.get(name) or name
        model = named(target, repository)
        return None if model is None else Meaning(model, stand_in=name in STAND_INS)
    found = meaning(target, {}, repository)
    if found is None:
        close = get_close_matches(target, [x.id for x in MODELS], n=1, cutoff=0.4)
        hint = f"; did you mean [{close[0]}]?" if close else ""
        raise ShelfError(f'models.aliases."{name}" names [{target}], which is no model here{hint}')
    theirs = name in STAND_INS or TRUE_NAMES.get(name, found.model.id) != found.model.id
    return Meaning(found.model, stand_in=found.stand_in or theirs)
