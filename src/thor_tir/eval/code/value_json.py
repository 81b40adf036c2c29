"""Python values as JSON and back, so that what a program returns can be judged outside of its process.

A program under test never meets the expected values: it returns plain data, and an object with a forged `__eq__`
arrives as something that equals nothing. This file's own text is also run inside the sandbox, so it imports the
standard library alone. Reading back runs no code of the writer's, unlike `pickle`.
"""

import collections
import datetime
import decimal
import fractions
import hashlib
import itertools
import json
import sys
from typing import Any

MOST_ITEMS = 100_000
"""Most items of an iterator; one that yields more is taken for endless."""
LONG_TEXT = 100_000
"""Characters; a longer text travels as a sentence with its digest, so that only equality can be tested."""
LONG_LIST = 200_000
"""Items; of a longer list of whole numbers and texts only equality can be tested, in the same way."""
_EXACT_INT = 2**53
_PLAIN = {int, float, str, bool, type(None)}
_SEQUENCES: dict[str, Any] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "iterator": iter,
}
_MAPPINGS: dict[str, Any] = {
    "dict": dict,
    "Counter": lambda pairs: collections.Counter(dict(pairs)),
    "OrderedDict": collections.OrderedDict,
    "defaultdict": lambda pairs: collections.defaultdict(None, pairs),
}
_TEXTS: dict[str, Any] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
}


class Opaque:
    """Stands for a value that is no plain data. It equals only itself."""


def encode(value: Any) -> Any:
    """JSON for a value of the built-in kinds, of NumPy, or a few of the standard library; other values are opaque.

    A value of a class derived from a built-in one counts as the built-in kind, its own methods unasked.
    """
    try:
        return _encode(value)
    except (RecursionError, MemoryError, TypeError, ValueError, AttributeError):
        return {"opaque": type(value).__name__}


def decode(data: Any) -> Any:
    """The value that `encode` made JSON of. Raises ValueError for anything that `encode` does not write."""
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return data if set(map(type, data)) <= _PLAIN else [decode(item) for item in data]
    try:
        ((kind, body),) = data.items()
        return _decode(kind, body)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"not an encoded value: {str(data)[:80]}") from error


def _encode(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if isinstance(value, int):
        whole = int.__int__(value)
        return whole if -_EXACT_INT < whole < _EXACT_INT else {"int": hex(whole)}
    if kind is float or (isinstance(value, float) and kind.__module__ != "numpy"):
        return float.__float__(value)
    if kind.__module__ == "numpy" and "numpy" in sys.modules:
        return _encode_numpy(value)
    if isinstance(value, str):
        return str.__str__(value) if str.__len__(value) <= LONG_TEXT else _digest(str.__str__(value))
    if isinstance(value, list):
        return _encode_list(value)
    return _encode_named(value)


def _encode_list(value: list[Any]) -> Any:
    """Item by item, except the long lists of plain items or of tuples of these, which C code can look through."""
    kinds = set(map(type, list.__iter__(value)))
    if type(value) is list and _is_plain(value, kinds):
        return _shortened(value, len(value), kinds)
    if kinds == {tuple} and type(value) is list:
        num_items = sum(map(len, value))
        if num_items > LONG_LIST and (words := _words_of(value)):
            return _digest_of_words(value, words)
        inner = set(map(type, itertools.chain.from_iterable(value)))
        if inner <= _PLAIN and _is_plain(list(itertools.chain.from_iterable(value)), inner):
            return _shortened({"tuples": value}, num_items, inner)
    return [_encode(item) for item in list.__iter__(value)]


def _words_of(rows: list[tuple[Any, ...]]) -> list[str]:
    """The distinct items, sorted, where they are up to 256 texts; else nothing."""
    try:
        words = set(itertools.chain.from_iterable(rows))
    except TypeError:  # an item that cannot be hashed
        return []
    return sorted(words) if len(words) <= 256 and set(map(type, words)) == {str} else []


def _digest_of_words(rows: list[tuple[str, ...]], words: list[str]) -> str:
    """As _digest of the rows' JSON, for combinations of a few words that would be a gigabyte of it."""
    codes = {word: code for code, word in enumerate(words)}
    letters = bytes(map(codes.__getitem__, itertools.chain.from_iterable(rows)))
    return _digest(json.dumps([words, list(map(len, rows)), hashlib.sha256(letters).hexdigest()]))


def _is_plain(items: list[Any], kinds: set[type]) -> bool:
    """True if JSON can hold the items as they are."""
    return (
        kinds <= _PLAIN
        and (int not in kinds or all(-_EXACT_INT < item < _EXACT_INT for item in items if type(item) is int))
        and (str not in kinds or all(len(item) <= LONG_TEXT for item in items if type(item) is str))
    )


def _shortened(data: Any, num_items: int, kinds: set[type]) -> Any:
    """A digest of what is too long to be carried, where closeness cannot count because nothing in it is a float."""
    return data if num_items <= LONG_LIST or float in kinds else _digest(json.dumps(data))


def _digest(text: str) -> str:
    blob = text.encode(errors="surrogatepass")
    return f"text of {len(text)} characters, SHA-256 {hashlib.sha256(blob).hexdigest()}"


def _encode_named(value: Any) -> Any:
    if isinstance(value, dict):
        kinds = ("Counter", "OrderedDict", "defaultdict")
        name = type(value).__name__ if type(value).__name__ in kinds else "dict"
        return {name: [[_encode(key), _encode(item)] for key, item in dict.items(value)]}
    bases: tuple[Any, ...] = (tuple, set, frozenset, collections.deque)
    for base in bases:
        if isinstance(value, base):
            return {base.__name__: [_encode(item) for item in base.__iter__(value)]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [_encode(bound) for bound in (value.start, value.stop, value.step)]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, decimal.Decimal | fractions.Fraction):
        return {type(value).__name__: str(value)}
    if isinstance(value, datetime.date):
        return {type(value).__name__: value.isoformat()}
    return _encode_iterator(value)


def _encode_iterator(value: Any) -> Any:
    if not hasattr(type(value), "__next__"):
        return {"opaque": type(value).__name__}
    items = list(itertools.islice(value, MOST_ITEMS + 1))
    return {"opaque": "endless"} if len(items) > MOST_ITEMS else {"iterator": [_encode(item) for item in items]}


def _encode_numpy(value: Any) -> Any:
    if value.dtype.hasobject:
        return {"opaque": "ndarray"}
    return {"numpy": [value.dtype.str, list(value.shape), _encode(value.tolist())]}


def _decode(kind: str, body: Any) -> Any:
    if kind in _TEXTS:
        return _TEXTS[kind](body)
    if kind in _SEQUENCES:
        return _SEQUENCES[kind]([decode(item) for item in body])
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]([(decode(key), decode(item)) for key, item in body])
    if kind == "tuples":
        return [tuple(item) for item in body]
    if kind == "complex":
        return complex(float(body[0]), float(body[1]))
    if kind == "range":
        return range(*[decode(bound) for bound in body])
    if kind == "numpy":
        import numpy

        array = numpy.array(decode(body[2]), dtype=body[0]).reshape(body[1])
        return array if body[1] else array[()]
    return {"opaque": Opaque}[kind]()
