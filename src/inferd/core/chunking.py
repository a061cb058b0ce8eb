"""Chunking settings: stored and shown with embedding endpoints (api.md section 9)."""

from collections.abc import Callable, Mapping
from typing import Any

from inferd.core.settings import java_double, wrong_type
from inferd.errors import IllegalArgument, Invalid

DEFAULT: Mapping[str, Any] = {"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1}

PLAINTEXT = (r"(?<!\n)\n\n(?!\n)", r"(?<!\n)\n(?!\n)")
MARKDOWN = (
    "\n# ",
    "\n## ",
    "\n### ",
    "\n#### ",
    "\n##### ",
    "\n###### ",
    r"\n^(?!\s*$).*\n-{1,}\n",
    r"\n^(?!\s*$).*\n={1,}\n",
)
GROUPS = {"markdown": MARKDOWN, "plaintext": PLAINTEXT}
MAX_SEPARATORS = 50
_SCOPE = "chunking_settings"


def parse(raw: Any) -> dict[str, Any]:
    """The stored form of ``chunking_settings``; absent or ``{}`` gives the default."""
    if raw is None:
        return dict(DEFAULT)
    if not isinstance(raw, Mapping):
        raise Invalid(wrong_type(_SCOPE, raw, "Map"))
    if not raw:
        return dict(DEFAULT)
    rest = dict(raw)
    strategy = rest.pop("strategy", None)
    if strategy is None:
        raise IllegalArgument("Can't generate Chunker without ChunkingStrategy provided")
    reader = _STRATEGIES.get(str(strategy).lower()) if isinstance(strategy, str) else None
    if reader is None:
        raise IllegalArgument(f"Invalid chunkingStrategy {strategy}")
    faults: list[str] = []
    parsed = reader(rest, faults)
    if faults:
        raise Invalid(faults)
    return {"strategy": strategy.lower(), **parsed}


def _foreign(name: str, rest: Mapping[str, Any], known: set[str], faults: list[str]) -> None:
    unknown = [key for key in rest if key not in known]
    if unknown:
        faults.append(f"{name} chunking settings can not have the following settings: [{', '.join(unknown)}]")


def _whole(rest: Mapping[str, Any], key: str, faults: list[str], minimum: int | None) -> int | None:
    value = rest.get(key)
    if value is None:
        faults.append(f"[{_SCOPE}] does not contain the required setting [{key}]")
    elif isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
        faults.append(wrong_type(key, value, "Integer"))
    elif value <= 0:
        faults.append(f"[{_SCOPE}] Invalid value [{value}]. [{key}] must be a positive integer")
    elif minimum is not None and value < minimum:
        faults.append(_bound(key, value, "greater", minimum))
    else:
        return value
    return None


def _bound(key: str, value: float, word: str, limit: float) -> str:
    return (
        f"[{_SCOPE}] Invalid value [{java_double(float(value))}]. [{key}] must be {word} than or equal to "
        f"[{java_double(float(limit))}]"
    )


def _word(rest: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    _foreign("Word based", rest, {"max_chunk_size", "overlap"}, faults)
    size = _whole(rest, "max_chunk_size", faults, 10)
    overlap = _whole(rest, "overlap", faults, None)
    if size is not None and overlap is not None and overlap > size // 2:
        faults.append(_bound("overlap", overlap, "less", size // 2))
    return {"max_chunk_size": size, "overlap": overlap}


def _sentence(rest: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    _foreign("Sentence based", rest, {"max_chunk_size", "sentence_overlap"}, faults)
    size = _whole(rest, "max_chunk_size", faults, 20)
    overlap = rest.get("sentence_overlap", 1)
    if isinstance(overlap, bool) or not isinstance(overlap, int):
        faults.append(wrong_type("sentence_overlap", overlap, "Integer"))
    elif overlap not in (0, 1):
        faults.append(f"sentence_overlap[{overlap}] must be either 0 or 1")
    return {"max_chunk_size": size, "sentence_overlap": overlap}


def _recursive(rest: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    _foreign("Recursive", rest, {"max_chunk_size", "separators", "separator_group"}, faults)
    size = _whole(rest, "max_chunk_size", faults, 10)
    separators = rest.get("separators")
    group = rest.get("separator_group")
    if separators is not None and group is not None:
        faults.append("Recursive chunking settings can not have both separators and separator_set")
    elif group is not None:
        if isinstance(group, str) and group in GROUPS:
            separators = list(GROUPS[group])
        else:
            names = ", ".join(sorted(GROUPS))
            faults.append(
                f"[{_SCOPE}] Invalid value [{group}] received. [separator_group] must be one of [{names}]"
            )
    elif separators is None:
        separators = list(PLAINTEXT)
    elif not isinstance(separators, list) or not all(isinstance(s, str) for s in separators):
        faults.append(wrong_type("separators", separators, "List"))
    elif not separators:
        faults.append("Recursive chunking settings can not have an empty list of separators")
    elif len(separators) > MAX_SEPARATORS:
        faults.append(f"separators list size [{len(separators)}] must not exceed [{MAX_SEPARATORS}]")
    return {"max_chunk_size": size, "separators": separators}


def _none(rest: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    _foreign("None", rest, set(), faults)
    return {}


_STRATEGIES: dict[str, Callable[[Mapping[str, Any], list[str]], dict[str, Any]]] = {
    "word": _word,
    "sentence": _sentence,
    "recursive": _recursive,
    "none": _none,
}
