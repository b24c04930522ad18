"""Specs: frozen, strict descriptions of what is computed, and nothing about where.

A spec is light: it opens no file, no network, no GPU. Its canonical form leaves out every field that equals its
default, so a default, once released, never changes; ``revision`` is bumped by hand when code changes meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Self, TypeAlias, TypeVar, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from scaleback.core.errors import Refusal, SpecError, one_line, short, unknown

Plain: TypeAlias = "None | bool | int | float | str | list[Plain] | dict[str, Plain]"
S = TypeVar("S", bound="Spec")

REQUIRED = object()
"""In place of the default of a field that has none."""
NAME_HEX = 10
"""Hex digits of the fingerprint in a name: 40 bits, so a million artifacts collide with probability 0.4, and a
collision is noticed, because the whole spec lies beside the artifact and is compared."""


class Spec(BaseModel):
    """Base of everything that has identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    revision: ClassVar[int] = 1
    beside: ClassVar[frozenset[str]] = frozenset()
    """Fields that are no part of identity: how the same thing is come by."""

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: object) -> object:
        """YAML and JSON have no tuples; strict validation would refuse their lists."""
        if isinstance(data, Mapping):
            return {key: _tuples(value) for key, value in data.items()}
        return data

    def canonical(self) -> dict[str, Plain]:
        """What identity is computed from: the kind, the revision if bumped, and every field that is not its default.

        Fields that are ``beside`` it are left out.
        """
        fields: dict[str, Plain] = {"revision": self.revision} if self.revision != 1 else {}
        for name, default in _defaults(type(self)).items():
            value = getattr(self, name)
            if name in self.beside:
                continue
            if name == "kind" or default is REQUIRED or value != default or _revised(value):
                fields[name] = _plain(value, lambda spec: spec._identity)
        return fields

    @cached_property
    def _identity(self) -> _Form:
        """The canonical form as a member of another's, made once: runs of a study share most of their members."""
        return _Form(self.canonical())

    def plain(self) -> dict[str, Plain]:
        """Every field as numbers, strings, lists and mappings: what is stored, shown, and parsed back."""
        return {name: _plain(getattr(self, name), Spec.plain) for name in type(self).model_fields}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with fields changed, and nothing kept of what was computed from the original's."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        """What travels to another process: the fields, and nothing that was computed from them."""
        state = super().__getstate__()
        fields = type(self).model_fields
        return {**state, "__dict__": {name: value for name, value in state["__dict__"].items() if name in fields}}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        # Its own form is not kept: of ten thousand runs it would fill more memory than the runs do.
        return hashlib.sha256(_json(self.canonical()).encode()).hexdigest()

    @property
    def short(self) -> str:
        """The readable part of the slug; a spec with a kind is called by it."""
        kind = getattr(self, "kind", None)
        return kind if isinstance(kind, str) else type(self).__name__.lower()

    @property
    def slug(self) -> str:
        """``short-0123456789``: the last part of an address."""
        return f"{self.short}-{self.fingerprint[:NAME_HEX]}"

    @classmethod
    def parse(cls, data: object, at: str = "") -> Self:
        """Build from plain data (YAML, JSON, command line).

        Raises:
            SpecError: one line per fault, with its path.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SpecError("\n".join(fault_lines(error, cls, data, at))) from None

    def replace(self, changes: Mapping[str, Plain], made: dict[str, Any] | None = None) -> Self:
        """A copy with dotted fields set, in order: ``{"source.delta": 0.2}``.

        Setting a member with kinds to a bare name, or its ``kind`` to another one, starts that member afresh.

        Args:
            changes: dotted field to value.
            made: what earlier calls made of such changes; it is added to, and copies that share a change share what
                it makes.
        """
        made = {} if made is None else made
        by_field: dict[str, dict[str, Plain]] = {}
        for path, value in changes.items():
            by_field.setdefault(path.partition(".")[0], {})[path] = value
        keys = {name: json.dumps(list(given.items())) for name, given in by_field.items()}
        plain: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name, given in by_field.items():
            if keys[name] in made:
                plain[name] = made[keys[name]]
                continue
            if name in plain:
                plain[name] = _plain(plain[name], Spec.plain)
            for path, value in given.items():
                assign(plain, path, value)
        copy = type(self).parse(plain)
        made.update((keys[name], getattr(copy, name)) for name in by_field)
        return copy


def variants(registry: Mapping[str, type[S]]) -> Any:
    """The annotation of a field that holds one of a registry's specs, told apart by ``kind``; a bare name is a kind."""
    members = tuple(registry.values())
    named = BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value)
    if len(members) == 1:
        return Annotated[members[0], named]
    return Annotated[Union[members], Field(discriminator="kind"), named]  # noqa: UP007 (a tuple of types)


def presets(what: str, named: Callable[[], Mapping[str, S]]) -> BeforeValidator:
    """Lets a field be written as the name of a preset, or as ``{preset: name, field: value, ...}``."""

    def expand(value: object) -> object:
        changes: dict[str, Any] = {}
        if isinstance(value, Mapping) and "preset" in value:
            changes = {key: item for key, item in value.items() if key != "preset"}
            value = value["preset"]
        if not isinstance(value, str):
            return value
        if value not in named():
            raise Refusal("", unknown(what, value, named()))
        plain = named()[value].plain()
        for path, item in changes.items():
            assign(plain, path, item)
        return plain

    return BeforeValidator(expand)


def assign(plain: dict[str, Any], path: str, value: object) -> None:
    """Set a dotted path in plain data, in place. A member of a list is named by its index or by its kind."""
    node: Any = plain
    *parents, last = path.split(".")
    for depth, part in enumerate(parents):
        node = _child(node, part, ".".join(parents[: depth + 1]))
    if isinstance(node, list):
        node[_index(node, last, path)] = value
    elif last == "kind" and node.get("kind") != value:
        node.clear()
        node["kind"] = value
    else:
        node[last] = value


def _child(node: Any, part: str, path: str) -> Any:
    key: Any = _index(node, part, path) if isinstance(node, list) else part
    child = node[key] if isinstance(node, list) else node.get(key)
    if child is None:
        child = {}
    elif isinstance(child, str):
        child = {"kind": child}
    elif not isinstance(child, dict | list):
        raise SpecError(f"{path}: is a value and has no fields; it is {short(child)}")
    node[key] = child
    return child


def _index(node: list[Any], part: str, path: str) -> int:
    kinds = [item.get("kind") if isinstance(item, dict) else item for item in node]
    if part in kinds:
        return kinds.index(part)
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise SpecError(f"{path}: " + unknown("member", part, [str(kind) for kind in kinds]))


@cache
def _defaults(cls: type[Spec]) -> dict[str, Any]:
    """Each field's default; pydantic copies it at every question."""
    fields = cls.model_fields.items()
    return {
        name: REQUIRED if info.is_required() else info.get_default(call_default_factory=True) for name, info in fields
    }


class _Form(dict[str, Plain]):
    """The canonical form of a member, which remembers how it is written. Not to be changed."""

    @cached_property
    def json(self) -> str:
        return _json(dict(self))


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _json(value: Plain) -> str:
    """Canonical JSON: what ``_JSON`` writes, put together from members that are written already."""
    if isinstance(value, _Form):
        return value.json
    if isinstance(value, dict):
        return f"{{{','.join(f'{_JSON.encode(name)}:{_json(item)}' for name, item in sorted(value.items()))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return _JSON.encode(value)


def _revised(value: object) -> bool:
    """Whether a member's code has changed meaning: then its default no longer stands for what it once did."""
    match value:
        case Spec():
            return value.revision != 1 or any(_revised(getattr(value, name)) for name in type(value).model_fields)
        case tuple() | list():
            return any(_revised(item) for item in value)
    return False


def _plain(value: object, of_spec: Callable[[Spec], dict[str, Plain]]) -> Plain:
    match value:
        case Spec():
            return of_spec(value)
        case tuple() | list():
            return [_plain(item, of_spec) for item in value]
        case dict():
            return {str(name): _plain(item, of_spec) for name, item in value.items()}
        case float():
            return value + 0.0  # -0.0 and 0.0 are one value
        case None | bool() | int() | str():
            return value
    raise SpecError(
        f"a spec may not hold a {type(value).__qualname__}; use a number, a string, a tuple or another Spec"
    )


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def fault_lines(error: ValidationError, cls: type[BaseModel], data: object, at: str = "") -> list[str]:
    """One line per fault: dotted path, rule, value, nearest known name."""
    lines, faults = [], error.errors(include_url=False)
    for fault in faults:
        loc = fault["loc"]
        if fault["type"] == "too_short" and any(loc == one["loc"][: len(loc)] for one in faults if one is not fault):
            continue  # an item that is refused is not there to be counted
        path, parent = _locate(cls, data, loc)
        reason = fault.get("ctx", {}).get("error")
        if isinstance(reason, Refusal) and reason.field:
            path = [*path, reason.field]
        dotted = one_line(".".join([at, *path] if at else path)) or cls.__name__.lower()
        lines.append(f"{dotted}: {_rule(fault, path[-1] if path else '', parent)}")
    return lines


def _rule(fault: ErrorDetails, last: str, parent: type[BaseModel] | None) -> str:
    context, value = fault.get("ctx", {}), fault["input"]
    match fault["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return unknown("field", last, parent.model_fields if parent else ())
        case "union_tag_invalid":
            return unknown("kind", str(context["tag"]), context["expected_tags"].replace("'", "").split(", "))
        case "union_tag_not_found":
            return "needs a kind"
        case "literal_error":
            known = [option.strip("'") for option in context["expected"].replace(" or ", ", ").split(", ")]
            return unknown("value", str(value), known)
        case "value_error":
            return str(context["error"])
    rule = fault["msg"].replace("Input should be", "must be").replace("a valid integer", "an integer")
    rule = rule.replace("a valid ", "a ")
    return f"{rule}; got {short(value)}"


def _locate(
    cls: type[BaseModel], data: object, location: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted path without union tags, and the model that holds its last part."""
    path: list[str] = []
    here: list[type[BaseModel]] = [cls]
    parent: type[BaseModel] | None = cls
    for part in location:
        if isinstance(part, str) and part == _kind(data):
            here = [model for model in here if _kind(model) == part] or here
            continue
        parent = here[0] if here else None
        if isinstance(part, int):
            data = data[part] if isinstance(data, list | tuple) and part < len(data) else None
            path.append(str(_kind(data) or part))
            continue
        path.append(part)
        info = parent.model_fields.get(part) if parent else None
        here = _models_in(info.annotation) if info else []
        data = data.get(part) if isinstance(data, Mapping) else getattr(data, part, None)
    return path, parent


def _kind(data: object) -> object:
    if isinstance(data, str):
        return data
    if isinstance(data, Mapping):
        return data.get("kind")
    if isinstance(data, type) and issubclass(data, BaseModel):
        return data.model_fields["kind"].default if "kind" in data.model_fields else None
    return getattr(data, "kind", None)


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
