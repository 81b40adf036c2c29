"""The columns of a data set that hold question, answer and system message: named by the user, or found by their names.

Values are looked at, and the messages of faults name what was seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import isnan
from numbers import Real
from typing import Any

from thor_tir.errors import UsageError

QUESTION_FIELDS = ("question", "problem", "prompt", "query")
"""Columns in which published data sets keep the question; the first that says something is taken."""
ANSWER_FIELDS = (
    "answer",
    "expected_answer",
    "ground_truth",
    "final_answer",
    "solution",
    "reward_model.ground_truth",
    "extra_info.answer",
)
"""The same for the reference answer. Dots lead into records, as in verl's rows."""
SYSTEM_FIELD = "system"
"""Column of a system message; a chat that holds the question may bring one as well."""
NO_SYSTEM = "none"
"""Name of no column: system messages are left out."""


@dataclass(frozen=True, kw_only=True)
class ProblemFields:
    """Columns of a data set of one's own."""

    question_field: str = ""
    """Column of the questions; dots lead into nested ones. Found by its name where none is given: question, problem,
    prompt or query."""
    answer_field: str = ""
    """Column of the reference answers; found where none is given: answer, expected_answer, ground_truth, final_answer,
    solution or reward_model.ground_truth."""
    system_field: str = ""
    """Column of system messages, which follow the rules of the prompt; by default `system`, or the system turn of the
    chat that holds the question. `none` leaves them out."""


ANY_FIELDS = ProblemFields()


@dataclass(frozen=True, slots=True)
class Taken:
    """A text and the column that it was taken from."""

    column: str
    """Column, as messages call it."""
    text: str
    """Text, as its source wrote it."""


def question_in(row: Mapping[str, Any], fields: ProblemFields = ANY_FIELDS) -> Taken | None:
    """The question of a row; None where no column holds one."""
    names = (fields.question_field,) if fields.question_field else QUESTION_FIELDS
    for name, value in _values(row, names):
        if isinstance(value, str) and value.strip():
            return Taken(f"`{name}`", value)
        if (turns := turns_of(value)) is not None:
            asked = [text for role, text in turns if role == "user"]
            is_question = len(asked) == 1 and (bool(fields.question_field) or {r for r, _ in turns} <= _ASKING)
            if is_question and asked[0].strip():
                return Taken(f"the user's turn of `{name}`", asked[0])
    return None


def read_question(row: Mapping[str, Any], fields: ProblemFields, where: str) -> Taken:
    """The question of a row. Raises UsageError where there is none, or none that a tokenizer can read."""
    found = question_in(row, fields)
    if found is None:
        names = (fields.question_field,) if fields.question_field else QUESTION_FIELDS
        given = next((value for _, value in _values(row, names) if value is not None), None)
        called = f"`{names[0]}`" + (f" (or {_or(names[1:])})" if names[1:] else "")
        raise UsageError(
            f"{where}: {called} must be a non-empty string, found {given!r:.80}{_has(row, given, '--question-field')}"
            + ("; a chat may be a system turn and one turn of the user's" if turns_of(given) is not None else "")
        )
    if any("\ud800" <= character <= "\udfff" for character in found.text):
        raise UsageError(f"{where}: {found.column} holds half of a surrogate pair, which is no character")
    return found


def read_answer(row: Mapping[str, Any], fields: ProblemFields, where: str) -> Taken:
    """The reference answer of a row, empty where the row says that there is none.

    Raises UsageError for a row without such a column, and for what is no answer.
    """
    names = (fields.answer_field,) if fields.answer_field else ANSWER_FIELDS
    empty = None
    for name, value in _values(row, names):
        said = _of_one(value)
        if said is None or (isinstance(said, float) and isnan(said)) or (isinstance(said, str) and not said.strip()):
            empty = empty or Taken(f"`{name}`", said if isinstance(said, str) else "")
            continue
        if fields.answer_field and (turns := turns_of(value)):
            return Taken(f"the assistant's turn of `{name}`", turns[-1][1] if turns[-1][0] == "assistant" else "")
        if isinstance(said, bool) or not isinstance(said, str | Real | Decimal):
            raise UsageError(f"{where}: `{name}` must be a string or a number, found {value!r:.80}")
        if str(said).lstrip("+-").lower() in ("inf", "infinity") and not isinstance(said, str):
            raise UsageError(f"{where}: `{name}` is {said}, which is no answer; leave the row out, or write the answer")
        return Taken(f"`{name}`", str(said))
    if empty is not None:
        return empty
    raise UsageError(
        f"{where}: `{names[0]}` must be a string or a number, found None{_has(row, None, '--answer-field')}"
        + (f"; an answer may also be called {_or(names[1:])}" if names[1:] else "")
        + "; `null` says that a problem has none"
    )


def read_system(row: Mapping[str, Any], fields: ProblemFields, question: str, where: str) -> Taken | None:
    """The system message of a row: from its own column, or the system turn of the chat in the question's column."""
    if fields.system_field == NO_SYSTEM:
        return None
    in_chat = _bare(question)
    names = (fields.system_field,) if fields.system_field else (SYSTEM_FIELD, in_chat)
    for name, value in _values(row, names):
        if (turns := turns_of(value)) is not None:
            said = "\n\n".join(text for role, text in turns if role == "system")
            if said.strip():
                return Taken(f"the system turn of `{name}`", said)
        elif isinstance(value, str) and value.strip() and (fields.system_field or name != in_chat):
            return Taken(f"`{name}`", value)
        elif fields.system_field and value is not None and not isinstance(value, str):
            raise UsageError(f"{where}: `{name}` must be a string or a chat, found {value!r:.80}")
    if fields.system_field and not any(True for _ in _values(row, names)):
        raise UsageError(f"{where}: `{names[0]}` is missing{_has(row, None, '--system-field')}")
    return None


_ASKING = frozenset({"system", "user"})
_ROLES = {"human": "user", "gpt": "assistant"}


def turns_of(value: object) -> list[tuple[str, str]] | None:
    """The roles and texts of a chat; None for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return None
    found = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
            content = "".join(str(part["text"]) for part in content if isinstance(part.get("text"), str))
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        found.append((_ROLES.get(role, role), content))
    return found


def _of_one(value: object) -> object:
    """The element of a list of one, as OlympiadBench wraps answers."""
    is_wrapped = isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict)
    return value[0] if is_wrapped else value  # type: ignore[index]


def _values(row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, Any]]:
    """The columns there are of some names, with their values, in the order of the names."""
    known = _spelled(tuple(row))
    found = []
    for name in names:
        spelled = known.get(name) or known.get(name.casefold())
        if spelled is not None:
            found.append((spelled, row[spelled]))
        elif "." in name:
            head, _, rest = name.partition(".")
            inner = row.get(known.get(head) or known.get(head.casefold()) or head)
            if isinstance(inner, list):
                inner = {str(place): value for place, value in enumerate(inner)}
            if isinstance(inner, Mapping):
                found += [(f"{head}.{deep}", value) for deep, value in _values(inner, [rest])]
    return found


@lru_cache(maxsize=64)
def _spelled(names: tuple[str, ...]) -> Mapping[str, str]:
    """Columns as they are spelled, by that spelling and by that in small letters."""
    return {**{str(name).strip().casefold(): name for name in reversed(names)}, **{name: name for name in names}}


def _bare(column: str) -> str:
    """The name of a column within the words of a message."""
    return column.partition("`")[2].removesuffix("`")


def _or(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _has(row: Mapping[str, Any], given: object, option: str) -> str:
    """The columns there are, where the one that is looked for is missing."""
    if given is not None:
        return ""
    columns = ", ".join(map(str, row))[:300] or "nothing"
    author = "assistant" if option == "--answer-field" else "user"
    chats = [name for name, value in row.items() if author in dict(turns_of(value) or ())]
    advice = f"{option} {chats[0]} takes it from that chat" if chats else f"{option} names another column"
    return f" (the row has {columns}; {advice})"
