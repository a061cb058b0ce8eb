"""Inputs of providers that embed more than text, and the input type that an embedding is asked for."""

from inferd.core.inputs import Contents, InputType, Item, Texts
from inferd.core.service import Ask


def groups(ask: Ask) -> tuple[tuple[Item, ...], ...]:
    """What each vector is made of."""
    if isinstance(ask.inputs, Contents):
        return ask.inputs.groups
    if isinstance(ask.inputs, Texts):
        return tuple((Item(text),) for text in ask.inputs.texts)
    raise TypeError(f"no contents in {type(ask.inputs).__name__}")


def asked_type(ask: Ask) -> InputType | None:
    """The request's input type, else the task setting; ``unspecified`` counts as none."""
    given = ask.inputs.input_type if isinstance(ask.inputs, Texts | Contents) else None
    if given is not None and given is not InputType.UNSPECIFIED:
        return given
    stored = ask.options.get("input_type")
    return InputType(stored) if stored is not None else None
