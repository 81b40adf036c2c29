"""A tokenizer's chat template: a prompt rendered from it, the form it wants turns in, and the token that ends a turn.

A template is a program of the model folder's. It runs in Jinja's sandbox, for a limited time, and whatever goes wrong
in it ends in one sentence.
"""

import ctypes
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.pretrained import CausalLM, ChatTurn, ModelTokenizer, Tokenizer
from thor_tir.storage.journal import JsonObject

OPENS, CLOSES = "<think>", "</think>"
TAGS = (
    (OPENS, CLOSES),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
)
"""Tags around thoughts, as families of models write them; the first are those that TIRGen knows."""

RENDERING_S = 5.0
"""Longest time that a template may take for one prompt, in seconds; a common one takes less than a millisecond."""
LEARNT = "reads_rules"
"""Key of `tokenizer_config.json`; false says that the model has learnt its rules, so that its template may leave them
out."""
_RULES, _QUESTION, _ANSWER, _RESULT = "thorrules", "thorquestion", "thoranswer", "thorresult"
_ASKED: tuple[ChatTurn, ...] = ({"role": "system", "content": _RULES}, {"role": "user", "content": _QUESTION})
_ANSWERED: tuple[ChatTurn, ...] = (_ASKED[1], {"role": "assistant", "content": _ANSWER})
_PROBES = (
    ("Ab  Cd: 1, 2.", "changes plain text (its case, blanks or signs)"),
    ("a < b > c & \"d\" 'e' \\frac{1}{2}", "changes the characters < > & \" ' \\ { or }"),
    ("one\ntwo\n\n    three", "changes line ends or indentation"),
    ("\n```python\nprint(4)\n```\n", "changes programs between fences"),
    ("long " * 2000, "cuts long text"),
)
"""Texts that must reach the prompt as they are, and what a template does that changes them."""
_OF_PARTS = ("'text':", '"text":')
"""Stands in a prompt whose template printed a list of parts as Python does."""


PACKAGED = {file.stem: file for file in sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))}
"""Templates that come with the package, by their names."""
_NAMED_TOKEN = re.compile(r"<[a-z_|]+>")
"""Token that a packaged template writes."""


class TemplateFault(UsageError):
    """A chat template that cannot be rendered with these turns."""


class TemplateTooSlow(UsageError):
    """A chat template that takes too long, whatever its turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnForm:
    """The form in which a template takes the turns of a request."""

    has_system: bool = True
    """False puts the rules at the head of the user's turn, for templates that refuse a system turn or leave it out."""
    system_in_parts: bool = False
    """The system turn's content is a list of parts."""
    user_in_parts: bool = False
    """The content of other turns is a list of parts."""

    def applied(self, turns: Sequence[ChatTurn]) -> list[ChatTurn]:
        """Turns whose content is text, as the template takes them."""
        said = list(turns)
        if not self.has_system and len(said) > 1 and said[0]["role"] == "system":
            head, first, *others = said
            said = [{**first, "content": f"{head['content']}\n\n{first['content']}"}, *others]
        return [{**turn, "content": self._content(turn)} for turn in said]

    def _content(self, turn: ChatTurn) -> Any:
        in_parts = self.system_in_parts if turn["role"] == "system" else self.user_in_parts
        return [{"type": "text", "text": turn["content"]}] if in_parts else turn["content"]


FORMS = (
    TurnForm(),
    TurnForm(has_system=False),
    TurnForm(system_in_parts=True, user_in_parts=True),
    TurnForm(user_in_parts=True),
    TurnForm(has_system=False, user_in_parts=True),
)
"""Tried in this order."""


def use_template(tokenizer: ModelTokenizer, name_or_path: str) -> None:
    """Give a tokenizer a packaged template by its name, or that of a file, in place of its own.

    Raises UsageError for neither, and for a packaged one whose tokens the tokenizer has not.
    """
    packaged = PACKAGED.get(name_or_path)
    path = packaged or Path(name_or_path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--chat-template {name_or_path!r} is neither a file that can be read "
            f"({getattr(error, 'strerror', None) or error}) nor one of {', '.join(PACKAGED)}"
        ) from error
    missing = set(_NAMED_TOKEN.findall(text)) - tokenizer.get_vocab().keys() if packaged else set()
    if missing:
        raise UsageError(
            f"--chat-template {name_or_path} writes {', '.join(sorted(missing))}, which {_of(tokenizer)} has no tokens "
            "for; take plain, which every tokenizer can spell, or a file of your own"
        )
    tokenizer.chat_template = text


def rendered(
    tokenizer: Tokenizer,
    turns: Sequence[ChatTurn],
    *,
    begins_answer: bool = True,
    thinks: bool = False,
    tools: Sequence[JsonObject] = (),
) -> str:
    """The text of some turns, with the beginning of the assistant's if asked for; `tools` are schemas of what may be
    called, which a template may leave out.

    Raises TemplateFault or TemplateTooSlow, in one sentence, whatever the template does.
    """
    try:
        with nullcontext() if getattr(tokenizer, "is_of_package", False) else _time_limit(RENDERING_S):
            text = tokenizer.apply_chat_template(
                list(turns),
                tokenize=False,
                add_generation_prompt=begins_answer,
                enable_thinking=thinks,
                **({"tools": list(tools)} if tools else {}),
            )
    except TimeoutError as error:
        raise TemplateTooSlow(f"{_named(tokenizer)} takes more than {RENDERING_S:g} s for one prompt") from error
    except Exception as error:  # it is foreign code, which may raise anything
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise TemplateFault(f"{_named(tokenizer)} cannot be rendered ({said[:300]})") from error
    return str(text)


def form_of(tokenizer: Tokenizer, *, thinks: bool = False) -> TurnForm:
    """The form in which rules and question reach the prompt.

    Raises UsageError where there is none.
    """
    must_read = getattr(tokenizer, "init_kwargs", {}).get(LEARNT, True)
    faults = []
    for form in FORMS:
        try:
            text = rendered(tokenizer, form.applied(_ASKED), thinks=thinks)
        except TemplateFault as fault:
            faults.append(fault)
            continue
        has_rules = _RULES in text or not must_read
        if _QUESTION in text and has_rules and not any(mark in text for mark in _OF_PARTS):
            _refuse_changed(tokenizer, form, thinks=thinks, must_read=must_read)
            return form
    if len(faults) == len(FORMS):
        raise faults[-1]
    raise UsageError(
        f"{_named(tokenizer)} leaves the question or the rules out of the prompt, in whatever form they come; "
        "take another template (--chat-template)"
    )


def reads_rules(tokenizer: Tokenizer, form: TurnForm, *, thinks: bool = False) -> bool:
    """True if a system message reaches the prompt; false for the template of a model that has learnt its rules."""
    return _RULES in rendered(tokenizer, form.applied(_ASKED), thinks=thinks)


def _refuse_changed(tokenizer: Tokenizer, form: TurnForm, *, thinks: bool, must_read: bool) -> None:
    """Raise UsageError for a template that changes what it is given, or that does not say the same twice."""
    does = None
    for probe, change in _PROBES:
        rules, question = f"{_RULES} {probe} {_RULES}", f"{_QUESTION} {probe} {_QUESTION}"
        turns = form.applied(({"role": "system", "content": rules}, {"role": "user", "content": question}))
        text = rendered(tokenizer, turns, thinks=thinks)
        if question not in text or (must_read and rules not in text):
            does = change
        elif rendered(tokenizer, turns, thinks=thinks) != text:
            does = "renders the same turns differently each time"
        if does:
            raise UsageError(f"{_named(tokenizer)} {does}; take another template (--chat-template)")


def declares(tokenizer: Tokenizer, form: TurnForm, tools: Sequence[JsonObject], mark: str, *, thinks: bool) -> bool:
    """True where the template itself describes these tools, and calls between tags of which `mark` is the first."""
    try:
        text = rendered(tokenizer, form.applied(_ASKED), thinks=thinks, tools=tools)
    except TemplateFault:
        return False
    return mark in text and all(tool["function"]["name"] in text for tool in tools) and _QUESTION in text


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTurn:
    """The text around a call's result: from behind the call to where the model writes on."""

    before: str
    """End of the model's turn, and the beginning of the result's."""
    after: str
    """End of the result's turn, and the beginning of the model's next one."""
    has_role: bool
    """True for a turn of the tool; False where the template has none, and the result is a turn of the user."""


def result_turn(
    tokenizer: Tokenizer, form: TurnForm, call: str, framed: Callable[[str], str], *, thinks: bool
) -> ResultTurn:
    """The turn of a result by a template; `framed` puts a result between tags, where the template does not.

    Raises UsageError for a template that takes no second question.
    """
    for role, text in (("tool", _RESULT), ("user", framed(_RESULT))):
        turns = [*_ASKED, {"role": "assistant", "content": _ANSWER + call}]
        said = [*form.applied(turns), *(form.applied([{"role": role, "content": text}]))]
        try:
            _, found, rest = rendered(tokenizer, said, thinks=thinks).partition(_ANSWER + call)
        except TemplateFault:
            continue
        before, has_result, after = rest.partition(_RESULT)
        if found and has_result and after and not any(mark in before for mark in _OF_PARTS):
            return ResultTurn(before=before, after=after, has_role=role == "tool")
    raise UsageError(
        f"{_named(tokenizer)} takes no result of a call, neither as a turn of the tool nor of the user; --dialect "
        "fences needs none"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnds:
    """The tokens that end a model's turn."""

    ids: frozenset[int]
    """All of them."""
    written: int | None
    """The one that ends a turn which is spelled here: the template's, or the end of sequence; None where there is
    neither."""


def turn_ends(tokenizer: Tokenizer) -> TurnEnds:
    """Ends of a turn: the end of sequence, the token that the template writes after an answer, and what a user names.

    A model may well be trained to end its turns as its template does, while its tokenizer and its generation settings
    name another token: Qwen2.5's base models do.
    """
    of_template = _end_by_template(tokenizer)
    written = tokenizer.eos_token_id if of_template is None else of_template
    named: frozenset[int] = getattr(tokenizer, "named_end_ids", frozenset())
    known = {token_id for token_id in (tokenizer.eos_token_id, written) if token_id is not None}
    return TurnEnds(ids=named | known, written=written)


def sampled_ends(model: CausalLM, tokenizer: Tokenizer) -> frozenset[int]:
    """Every token at which an engine stops: the ends of a turn, and what the model's generation settings name."""
    of_model = model.generation_config.eos_token_id
    ids = of_model if isinstance(of_model, list) else [of_model]
    return turn_ends(tokenizer).ids | frozenset(ids) - {None}


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of all tokens that are no text: added ones, unless they stand for blanks."""
    return frozenset(token_id for token, token_id in tokenizer.get_added_vocab().items() if token.strip())


def _end_by_template(tokenizer: Tokenizer) -> int | None:
    """The control token right behind an assistant's answer; None where the template writes none or refuses the turn."""
    for form in FORMS:
        try:
            text = rendered(tokenizer, form.applied(_ANSWERED), begins_answer=False)
        except TemplateFault:
            continue
        _, found, tail = text.rpartition(_ANSWER)
        if not found or any(mark in text for mark in _OF_PARTS):
            continue
        ids = tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"]
        return ids[0] if ids and ids[0] in control_ids(tokenizer) else None
    return None


def _named(tokenizer: Tokenizer) -> str:
    return f"the chat template of {_of(tokenizer)}" if getattr(tokenizer, "name_or_path", "") else "the chat template"


def _of(tokenizer: Tokenizer) -> str:
    return getattr(tokenizer, "name_or_path", "") or "this tokenizer"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the code within after so many seconds, in whatever thread it runs."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread alone
        with _time_limit_of_thread(seconds):
            yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before, began = signal.signal(signal.SIGALRM, stop), time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # a limit around this one goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)))


@contextmanager
def _time_limit_of_thread(seconds: float) -> Iterator[None]:
    """The same in another thread than the main one, by an exception that a second thread raises in it."""
    thread, lock = ctypes.c_ulong(threading.get_ident()), threading.Lock()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    is_over = has_fired = False

    def stop() -> None:
        nonlocal has_fired
        with lock:
            if not is_over:
                has_fired = True
                raise_in(thread, ctypes.py_object(TimeoutError))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if has_fired:  # Jinja may fail at what came at a place without a line
            raise TimeoutError from error
        raise
    finally:
        with lock:
            is_over = True
            raise_in(thread, None)  # one that was raised at the last moment, and has not arrived
        timer.cancel()
        timer.join()
