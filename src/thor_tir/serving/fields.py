"""A JSON object from a stranger, read field by field within bounds; a fault names the field in OpenAI's words."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

MAX_DEPTH = 24
"""Lists and objects within each other that a request may hold."""


class InvalidRequest(ValueError):
    """A request that asks for what is not there, or for more than is allowed."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        """Field at fault."""
        self.code = code
        """OpenAI's name for the fault, where it has one."""
        self.status = status
        """Status of the reply."""


def parse_json(data: bytes) -> Mapping[str, Any]:
    """The object that a body holds. Raises InvalidRequest for anything else, however hostile."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        if _depth(value) > MAX_DEPTH:
            raise RecursionError
    except RecursionError:
        raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _depth(value: object) -> int:
    """Depth to which lists and objects are nested, counted no further than is allowed."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inner = [item for each in level if isinstance(each, dict) for item in each.values()]
        inner += [item for each in level if isinstance(each, list) for item in each]
        depth += any(isinstance(each, dict | list) for each in level)
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth


class Fields:
    """A JSON object whose fields are each read once. null counts as absent; a field that was not read is refused."""

    def __init__(self, value: object, where: str = "") -> None:
        """`where` is the object's place in the request, as in `messages[0].`."""
        if not isinstance(value, Mapping):
            raise InvalidRequest(
                f"{where.rstrip('.') or 'the body'} must be a JSON object", param=where.rstrip(".") or None
            )
        self.where = where
        self._rest = {name: item for name, item in value.items() if item is not None}

    def refuse(self, name: str, message: str, *, code: str | None = None) -> NoReturn:
        """Raise InvalidRequest about a field."""
        raise InvalidRequest(f"{self.where}{name} {message}", param=f"{self.where}{name}", code=code)

    def any(self, name: str) -> Any:
        """A field of any kind; None where it is absent."""
        return self._rest.pop(name, None)

    def text(self, name: str, default: str | None = None) -> str | None:
        """A string that can be written as UTF-8."""
        value = self.any(name)
        return default if value is None else self.checked_text(name, value)

    def checked_text(self, name: str, value: object) -> str:
        """The value, which must be a string."""
        if not isinstance(value, str):
            self.refuse(name, f"must be a string, found {_kind(value)}")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            self.refuse(name, "holds half of a character (a lone surrogate)")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.text(name, default)
        if value not in allowed:
            self.refuse(name, f"must be one of {', '.join(allowed)}, found {str(value)[:60]!r}")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, f"must be true or false, found {_kind(value)}")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds, both included."""
        value = self.any(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, f"must be a whole number, found {_kind(value)}")
        if not low <= value <= high:
            self.refuse(name, f"must be from {low} to {high} on this server, found {_short(value)}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds, both included."""
        value = self.any(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, f"must be a number, found {_kind(value)}")
        if not low <= value <= high:
            self.refuse(name, f"must be from {low:g} to {high:g}, found {_short(value)}")
        return float(value)

    def items(self, name: str, most: int) -> list[Any]:
        """A list that is not empty."""
        value = self.any(name)
        if not isinstance(value, list) or not value:
            self.refuse(name, f"must be a list that is not empty, found {_kind(value)}")
        if len(value) > most:
            self.refuse(name, f"has {len(value)} entries; this server takes at most {most}")
        return value

    def inner(self, name: str) -> "Fields":
        """An object within this one; empty where it is absent."""
        value = self.any(name)
        return Fields({} if value is None else value, f"{self.where}{name}.")

    def unsupported(self, name: str, *allowed: object, reason: str) -> None:
        """A field of OpenAI's that has no effect here, so that only values which ask for nothing are taken."""
        value = self.any(name)
        if value is not None and not any(value == each and type(value) is type(each) for each in allowed):
            self.refuse(name, f"is not supported: {reason}", code="unsupported_parameter")

    def ignored(self, *names: str) -> None:
        """Fields that are notes to the server and change no answer."""
        for name in names:
            self._rest.pop(name, None)

    def end(self) -> None:
        """Refuse whatever has not been read."""
        for name in self._rest:
            self.refuse(str(name)[:60], "is not known to this server", code="unknown_parameter")


def _kind(value: object) -> str:
    kinds = {bool: "true or false", str: "a string", list: "a list", dict: "an object", type(None): "nothing"}
    return kinds.get(type(value), "a number")


def _short(value: int | float) -> str:
    return f"{value:g}" if isinstance(value, float) or abs(value) < 10**15 else "a number far beyond"
