"""Arguments of a call against a tool's JSON schema: the keywords that are known here, and no others.

A schema with a keyword that would not be checked is refused when the tool is loaded.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from thor_tir.errors import UsageError

_IS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (isinstance(value, int) or _is_whole(value)) and not isinstance(value, bool),
}
_NUMBERS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value >= bound),
    "maximum": ("at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("above", lambda value, bound: value > bound),
    "exclusiveMaximum": ("below", lambda value, bound: value < bound),
}
_LENGTHS: Mapping[str, tuple[str, Callable[[int, int], bool]]] = {
    "minLength": ("at least", lambda length, bound: length >= bound),
    "maxLength": ("at most", lambda length, bound: length <= bound),
    "minItems": ("at least", lambda length, bound: length >= bound),
    "maxItems": ("at most", lambda length, bound: length <= bound),
}
_SILENT = frozenset({"title", "description", "default", "examples", "$schema", "format"})
_KNOWN = frozenset({"type", "enum", "const", "properties", "required", "additionalProperties", "items"})


def check_schema(schema: object, where: str) -> None:
    """Raise UsageError for a schema that is none, or says what is not checked here."""
    if not isinstance(schema, Mapping):
        raise UsageError(f"{where} is no JSON schema but {type(schema).__name__}")
    known = _KNOWN | _SILENT | _NUMBERS.keys() | _LENGTHS.keys()
    if unknown := sorted(map(str, schema.keys() - known)):
        raise UsageError(f"{where} has {unknown[0]!r}, which is not checked here; leave it to the tool to refuse")
    if not {*_types(schema)} <= _IS.keys():
        raise UsageError(f"{where} has the type {schema['type']!r}; known are {', '.join(_IS)}")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}, {name}")
    if "items" in schema:
        check_schema(schema["items"], f"{where}, items")


def fault_of(schema: Mapping[str, Any], value: Any, where: str = "the arguments") -> str | None:
    """The first thing that is wrong with a value, in words for a model; None where it fits."""
    types = _types(schema)
    if types and not any(_IS[name](value) for name in types):
        return f"{where} must be {' or '.join(types)}, found {_shown(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of {', '.join(map(_shown, schema['enum']))}, found {_shown(value)}"
    if "const" in schema and value != schema["const"]:
        return f"{where} must be {_shown(schema['const'])}, found {_shown(value)}"
    if _IS["number"](value):
        return _out_of_bounds(schema, value, where)
    if isinstance(value, str | list):
        return _wrong_length(schema, value, where) or _wrong_item(schema, value, where)
    return _wrong_property(schema, value, where) if isinstance(value, dict) else None


def _out_of_bounds(schema: Mapping[str, Any], value: float, where: str) -> str | None:
    for keyword, (words, holds) in _NUMBERS.items():
        if keyword in schema and not holds(value, schema[keyword]):
            return f"{where} must be {words} {schema[keyword]}, found {_shown(value)}"
    return None


def _wrong_length(schema: Mapping[str, Any], value: str | list[Any], where: str) -> str | None:
    for keyword, (words, holds) in _LENGTHS.items():
        is_meant = keyword.endswith("Length") == isinstance(value, str)
        if keyword in schema and is_meant and not holds(len(value), schema[keyword]):
            return f"{where} must have {words} {schema[keyword]} entries or characters, found {len(value)}"
    return None


def _wrong_item(schema: Mapping[str, Any], value: str | list[Any], where: str) -> str | None:
    if isinstance(value, str) or "items" not in schema:
        return None
    found = (fault_of(schema["items"], item, f"{where}[{place}]") for place, item in enumerate(value))
    return next((fault for fault in found if fault), None)


def _wrong_property(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> str | None:
    properties = schema.get("properties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        return f"{where} lack {missing[0]!r}"
    if schema.get("additionalProperties") is False and (more := [name for name in value if name not in properties]):
        return f"{where} have {more[0]!r}, which is not known; known are {', '.join(properties) or 'none'}"
    found = (fault_of(part, value[name], f"{name!r}") for name, part in properties.items() if name in value)
    return next((fault for fault in found if fault), None)


def _types(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else list(named)


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
