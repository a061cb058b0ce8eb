"""Setting rows, and the one place that interprets them.

A setting is declared once; parsing, defaults, masking, ``_update``, ``GET _inference/_services``, the docs and the web form all read the
row. Messages: api.md 5.3 and services/common.md section 2.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.errors import Invalid, StatusError

Tasks = frozenset[TaskType]


class Kind(StrEnum):
    """JSON type of a value; the value is the type name that ``_services`` prints."""

    STRING = "str"
    INTEGER = "int"
    LONG = "long"
    DOUBLE = "double"
    BOOLEAN = "bool"
    MAP = "map"
    LIST = "list"


_JAVA_NAMES = {
    Kind.STRING: "String",
    Kind.INTEGER: "Integer",
    Kind.LONG: "Long",
    Kind.DOUBLE: "Double",
    Kind.BOOLEAN: "Boolean",
    Kind.MAP: "Map",
    Kind.LIST: "List",
}


class Setting(Struct, frozen=True, kw_only=True):
    """One setting of a service.

    ``key`` may be dotted once (``rate_limit.requests_per_minute``). ``tasks`` None means every task of the service. ``required``, ``default``
    and ``listed_default`` may depend on the task. ``updatable`` is what ``_services`` prints; ``mutable`` what ``_update`` takes (default: the
    same; secrets and task settings always are).
    """

    key: str
    kind: Kind = Kind.STRING
    label: str = ""
    description: str | None = None
    secret: bool = False
    required: bool | Tasks = False
    tasks: Tasks | None = None
    default: Any = None
    """A value, a mapping from task to value, or a function of the draft; filled in when the key is absent."""
    choices: tuple[str, ...] = ()
    """Accepted words, any letter case; stored in lower case unless ``upper``."""
    upper: bool = False
    positive: bool = False
    minimum: float | None = None
    maximum: float | None = None
    url: bool = False
    strings: bool = False
    """A map or list holds nothing but strings."""
    allow_empty: bool = False
    refused: bool = False
    """Known, but not to be given in a request; ``_update`` takes it where it is ``mutable``."""
    resettable: bool = False
    """``null`` in an ``_update`` brings the default back; elsewhere it is as good as absent."""
    aliases: tuple[str, ...] = ()
    missing: str | None = None
    """Text instead of the common one when a required value is absent."""
    read: "Callable[[Any, Setting, Draft], Any] | None" = None
    """Reads a value that no kind covers; adds its faults to the draft."""
    updatable: bool = False
    mutable: bool | None = None
    shown: bool = True
    """GET shows it."""
    listed: bool = True
    """``_services`` lists it."""
    listed_required: bool | None = None
    listed_default: Any = None
    listed_kind: str | None = None
    listed_tasks: tuple[TaskType, ...] | None = None

    @property
    def can_update(self) -> bool:
        return self.secret or (self.updatable if self.mutable is None else self.mutable)

    def serves(self, task: TaskType) -> bool:
        return self.tasks is None or task in self.tasks

    def needed(self, task: TaskType) -> bool:
        return self.required if isinstance(self.required, bool) else task in self.required


class Draft:
    """An endpoint while it is being read: values so far and every fault found."""

    def __init__(self, service: str, task: TaskType, id: str = "", called: str | None = None) -> None:
        self.id = id
        self.service = service
        self.called = called or service
        """The name that the request used: the service's own or one of its aliases."""
        self.task = task
        self.settings: dict[str, Any] = {}
        self.task_settings: dict[str, Any] = {}
        self.secrets: dict[str, Any] = {}
        self.hidden: dict[str, Any] = {}
        self.given: set[str] = set()
        """Keys of service_settings that the request itself held."""
        self.faults: list[str] = []
        self.scope = "service_settings"

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def check(self) -> None:
        if self.faults:
            raise Invalid(self.faults)


# How values print inside messages: the notation of Java's maps and lists.


def java(value: Any) -> str:
    """A JSON value as the reference prints it inside messages: ``{a=1, b=[x, y]}``."""
    if isinstance(value, Secret):
        return "******"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float):
        return java_double(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}={java(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(java(v) for v in value) + "]"
    return str(value)


def java_double(value: float) -> str:
    """Shortest digits, a decimal point always, exponent form below 1E-3 and from 1E7 on."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = repr(float(value))
        if "e" not in text:
            return text
    mantissa, _, exponent = f"{value!r}".partition("e")
    if not exponent:
        digits, power = _scientific(value)
        return f"{digits}E{power}"
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}E{int(exponent)}"


def _scientific(value: float) -> tuple[str, int]:
    sign = "-" if value < 0 else ""
    whole, _, part = repr(abs(value)).partition(".")
    if whole != "0":
        power = len(whole) - 1
        digits = whole + (part if part != "0" else "")
    else:
        stripped = part.lstrip("0")
        power = -(len(part) - len(stripped) + 1)
        digits = stripped
    digits = digits.rstrip("0") or "0"
    return f"{sign}{digits[0]}.{digits[1:] or '0'}", power


# Reading


def read(
    rows: Iterable[Setting], raw: dict[str, Any], draft: Draft, scope: str, *, partial: bool = False
) -> dict[str, Any]:
    """Take every known key out of ``raw``; what is left in it afterwards is unknown.

    ``partial``: nothing is required and nothing is filled in (task settings of a request).
    """
    values: dict[str, Any] = {}
    for row in rows:
        if not row.serves(draft.task):
            continue
        outer, _, inner = row.key.partition(".")
        where = "secret_settings" if row.secret else scope
        draft.scope = outer if inner else where
        reset = partial and row.resettable and outer in raw and raw[outer] is None
        value = _take_nested(raw, outer, inner, draft) if inner else _take(raw, row)
        if value is not None and scope == "service_settings":
            draft.given.add(row.key)
        parsed = None
        before = len(draft.faults)
        if value is not None:
            if row.refused and not (partial and row.can_update):
                draft.fault(f"[{where}] does not allow the setting [{row.key}]")
            else:
                parsed = _parse(row, inner or outer, value, draft)
        if parsed is None and (reset or not partial) and len(draft.faults) == before:
            parsed = default(row, draft)
            if parsed is None and row.needed(draft.task):
                draft.fault(
                    row.missing or f"[{draft.scope}] does not contain the required setting [{inner or outer}]"
                )
        if parsed is None:
            continue
        if row.secret:
            draft.secrets[row.key] = sealed(parsed)
        elif inner:
            values.setdefault(outer, {})[inner] = parsed
        else:
            values[row.key] = parsed
    draft.scope = scope
    return values


def sealed(value: Any) -> Any:
    """The value with every string in it a Secret."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, Mapping):
        return {k: sealed(v) for k, v in value.items()}
    return value


def default(row: Setting, draft: Draft) -> Any:
    value = row.default
    if callable(value):
        return value(draft)
    if isinstance(value, Mapping) and all(isinstance(k, TaskType) for k in value) and value:
        return value.get(draft.task)
    return value


def _take(raw: dict[str, Any], row: Setting) -> Any:
    value = raw.pop(row.key, None)
    for alias in row.aliases:
        other = raw.pop(alias, None)
        value = other if value is None else value
    return value


def _take_nested(raw: dict[str, Any], outer: str, inner: str, draft: Draft) -> Any:
    group = raw.pop(outer, None)
    if group is None:
        return None
    if not isinstance(group, Mapping):
        draft.fault(wrong_type(outer, group, "Map"))
        return None
    rest = {k: v for k, v in group.items() if k != inner}
    if rest:
        name = "Rate limit settings contain" if outer == "rate_limit" else f"[{outer}] settings contain"
        draft.fault(f"{name} unknown entries [{java(redacted(rest))}]")
    return group.get(inner)


def wrong_type(key: str, value: Any, *names: str) -> str:
    value = redacted(value)
    if len(names) == 1:
        return f"field [{key}] is not of the expected type. The value [{java(value)}] cannot be converted to a [{names[0]}]"
    return (
        f"field [{key}] is not of one of the expected types. The value [{java(value)}] cannot be converted to one of "
        f"[{', '.join(names)}]"
    )


def _parse(row: Setting, key: str, value: Any, draft: Draft) -> Any:
    if row.read is not None:
        return row.read(value, row, draft)
    reader = _READERS[row.kind]
    return reader(row, key, value, draft)


def _read_string(row: Setting, key: str, value: Any, draft: Draft) -> str | None:
    if not isinstance(value, str):
        draft.fault(wrong_type(key, value if not row.secret else Secret(""), "String"))
        return None
    if not value and not row.allow_empty:
        draft.fault(f"[{draft.scope}] Invalid value empty string. [{key}] must be a non-empty string")
        return None
    if row.choices:
        word = value.upper() if row.upper else value.lower()
        if word.lower() not in {choice.lower() for choice in row.choices}:
            draft.fault(not_a_choice(draft.scope, key, value, row.choices))
            return None
        return word
    if row.url:
        reason = bad_url(value)
        if reason is not None:
            draft.fault(not_a_url(draft.scope, key, value, reason))
            return None
    return value


def not_a_choice(scope: str, key: str, value: str, choices: Iterable[str]) -> str:
    words = ", ".join(sorted(choice.lower() for choice in choices))
    return f"[{scope}] Invalid value [{value}] received. [{key}] must be one of [{words}]"


_USER_INFO = re.compile(r"(//|^)[^/?#]*@")


def not_a_url(scope: str, key: str, value: str, reason: str) -> str:
    """``value``: an address, or a host without a scheme; a user and a password in it are not repeated."""
    shown = _USER_INFO.sub(r"\1******@", value)
    return (
        f"[{scope}] Invalid url [{shown}] received for field [{key}]. Error: unable to parse url [{shown}]. "
        f"Reason: {reason}"
    )


def bad_url(value: str) -> str | None:
    """Why a URL is not one; None when it is fine. The reasons' wording is ours: the contract leaves it open."""
    if any(c.isspace() or ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        return "Illegal character in url"
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  (reading it is the check)
    except ValueError as bad:
        return str(bad)
    if parts.scheme not in ("http", "https"):
        return "unexpected scheme, expected http or https" if parts.scheme else "the url has no scheme"
    if not parts.hostname:
        return "the url has no host"
    if parts.username is not None or parts.password is not None:
        return "a url is shown to everyone who may read the endpoint and holds no user and no password"
    return None


def _read_integer(row: Setting, key: str, value: Any, draft: Draft) -> int | None:
    limit = 2**63 if row.kind is Kind.LONG else 2**31
    if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
        names = ("Integer", "Long") if row.kind is Kind.LONG else ("Integer",)
        draft.fault(wrong_type(key, value, *names))
        return None
    if row.positive and value <= 0:
        noun = "long" if row.kind is Kind.LONG else "integer"
        draft.fault(f"[{draft.scope}] Invalid value [{value}]. [{key}] must be a positive {noun}")
        return None
    return value if _in_range(row, key, value, draft) else None


def _read_double(row: Setting, key: str, value: Any, draft: Draft) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        draft.fault(wrong_type(key, value, "Double"))
        return None
    try:
        number = float(value)
    except OverflowError:
        draft.fault(wrong_type(key, value, "Double"))
        return None
    return number if _in_range(row, key, number, draft) else None


def _in_range(row: Setting, key: str, value: float, draft: Draft) -> bool:
    """The article in these texts belongs there (common.md section 2)."""
    if row.minimum is not None and value < row.minimum:
        bound = f"must be a greater than or equal to [{java_double(float(row.minimum))}]"
    elif row.maximum is not None and value > row.maximum:
        bound = f"must be a less than or equal to [{java_double(float(row.maximum))}]"
    else:
        return True
    draft.fault(f"[{draft.scope}] Invalid value [{java_double(float(value))}]. [{key}] {bound}")
    return False


def _read_boolean(row: Setting, key: str, value: Any, draft: Draft) -> bool | None:
    if not isinstance(value, bool):
        draft.fault(wrong_type(key, value, "Boolean"))
        return None
    return value


def _read_map(row: Setting, key: str, value: Any, draft: Draft) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        draft.fault(wrong_type(key, value if not row.secret else Secret(""), "Map"))
        return None
    kept = {k: v for k, v in value.items() if v is not None}
    if row.strings:
        for k, v in kept.items():
            if not isinstance(v, str):
                shown = "******" if row.secret else java(v)
                draft.fault(
                    f"Map field [{key}] has an entry that is not valid, [{k} => {shown}]. "
                    f"Value type of [{shown}] is not one of [String]."
                )
                return None
    return kept


def _read_list(row: Setting, key: str, value: Any, draft: Draft) -> list[Any] | None:
    if not isinstance(value, list) or (row.strings and not all(isinstance(v, str) for v in value)):
        draft.fault(wrong_type(key, value, "List"))
        return None
    return value


_READERS: dict[Kind, Callable[[Setting, str, Any, Draft], Any]] = {
    Kind.STRING: _read_string,
    Kind.INTEGER: _read_integer,
    Kind.LONG: _read_integer,
    Kind.DOUBLE: _read_double,
    Kind.BOOLEAN: _read_boolean,
    Kind.MAP: _read_map,
    Kind.LIST: _read_list,
}


_SECRET_NAME = re.compile(
    r"(?i)(^|[_\-.])(api_?key|key|secret|secrets|password|passwd|token|credentials?|authorization|cookie"
    r"|secret_parameters|service_account_json)$"
)


def redacted(value: Any) -> Any:
    """The value without what is a secret by its name: misplaced keys are echoed in messages."""
    if isinstance(value, Mapping):
        return {
            k: Secret("") if isinstance(k, str) and _SECRET_NAME.search(k) and v is not None else redacted(v)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(v) for v in value]
    return _USER_INFO.sub(r"\1******@", value) if isinstance(value, str) and "//" in value else value


def refuse_leftovers(service: str, raw: Mapping[str, Any]) -> None:
    """api.md 4.2 check 9."""
    if raw:
        raise StatusError(
            400, f"Configuration contains settings [{java(redacted(raw))}] unknown to the [{service}] service"
        )


def known(rows: Iterable[Setting], task: TaskType) -> set[str]:
    """Top-level keys that these rows read for this task."""
    names: set[str] = set()
    for row in rows:
        if row.serves(task):
            names.add(row.key.partition(".")[0])
            names.update(row.aliases)
    return names


def publish(row: Setting, tasks: Iterable[TaskType]) -> dict[str, Any]:
    """The row as ``GET _inference/_services`` prints it (api.md 4.5): keys in alphabetical order."""
    if row.listed_tasks is not None:
        served = list(row.listed_tasks)
    else:
        served = [task for task in tasks if row.serves(task)]
    entry: dict[str, Any] = {
        "default_value": row.listed_default,
        "description": row.description,
        "label": row.label or row.key,
        "required": row.listed_required if row.listed_required is not None else bool(row.required),
        "sensitive": row.secret,
        "updatable": row.updatable,
        "type": row.listed_kind or ("int" if row.kind is Kind.LONG else row.kind.value),
        "supported_task_types": [str(task) for task in served],
    }
    return {k: v for k, v in entry.items() if v is not None}


# Rows that many services share.

API_KEY = Setting(
    key="api_key",
    label="API Key",
    description="API Key for the provider you're connecting to.",
    secret=True,
    required=True,
    updatable=True,
)
MODEL_ID = Setting(
    key="model_id", label="Model ID", description="Name of the provider's model to use.", required=True
)
DIMENSIONS = Setting(
    key="dimensions",
    kind=Kind.INTEGER,
    positive=True,
    label="Dimensions",
    tasks=frozenset({TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING}),
    listed=False,
)
SIMILARITY = Setting(
    key="similarity",
    choices=("cosine", "dot_product", "l2_norm"),
    label="Similarity",
    tasks=frozenset({TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING}),
    listed=False,
)
MAX_INPUT_TOKENS = Setting(
    key="max_input_tokens",
    kind=Kind.INTEGER,
    positive=True,
    label="Maximum Input Tokens",
    tasks=frozenset({TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING}),
    updatable=True,
    listed=False,
)


def rate_limit(
    per_minute: int | Mapping[TaskType, int], description: str = "Minimize the number of rate limit errors."
) -> Setting:
    """Requests a minute (common.md section 3). ``_update`` takes it though ``_services`` says otherwise."""
    return Setting(
        key="rate_limit.requests_per_minute",
        kind=Kind.LONG,
        positive=True,
        label="Rate Limit",
        description=description,
        default=per_minute,
        mutable=True,
    )


TOP_N = Setting(key="top_n", kind=Kind.INTEGER, positive=True, label="Top N")
RETURN_DOCUMENTS = Setting(key="return_documents", kind=Kind.BOOLEAN, label="Return Documents")
