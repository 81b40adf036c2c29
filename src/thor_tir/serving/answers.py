"""One request -> one answer: the attempts that are wanted, and the one that is chosen, sent piece by piece.

With one attempt its text comes as it is written. Of several only one will be the answer, so that their text comes when
it has been chosen; until then a piece for each candidate says that it is done.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from thor_tir.chat_template import TAGS
from thor_tir.dialect.dialect import Dialect, Thinking, thinking_of
from thor_tir.engines.protocol import Policy
from thor_tir.eval.answer_json import candidate_json
from thor_tir.inference.answering import Answer, AskedPrompt, AttemptLimits, Ears, answer
from thor_tir.inference.asking import Chooser
from thor_tir.inference.best_of_n import RULES, selector
from thor_tir.rollout.loop import Agent
from thor_tir.rollout.overheard import Event, Happening
from thor_tir.rollout.sample_many import Attempt
from thor_tir.rollout.toolbox import Toolbox, ToolRunner
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.serving.requests import AnswerOptions
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON

SILENT = frozenset({Happening.TEXT, Happening.STANDS})
"""Events that are text alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an answer, as it is sent."""

    content: str = ""
    """Text outside of thoughts."""
    reasoning: str = ""
    """Text of thoughts; empty for a model that does not think in tags."""
    event: Mapping[str, Any] | None = None
    """Event that the piece reports, as in the field `thor`; None for text alone."""


Tell = Callable[[Piece], None]
"""Function that is called with each piece of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Model, sandbox and conventions that all requests share."""

    name: str
    """Name by which clients ask for the model."""
    policy: Policy
    """Model that is asked."""
    sandbox: Sandbox
    """Place where programs run."""
    tools: ToolRunner = field(default_factory=Toolbox)
    """Runner of calls: of programs in the sandbox, and of the tools beside it."""
    with_tools: Dialect
    """Conventions where programs are run."""
    in_words: Dialect
    """Conventions where none are."""
    max_model_len: int | None = None
    """Tokens of a prompt with its answer, where they are known."""
    choosers: Mapping[str, Chooser] = field(
        default_factory=lambda: {name: Chooser(selector(name), None) for name in RULES}
    )
    """Selectors that requests may name."""
    continues_text: bool = True
    """True where a plain text can be continued: not by a server that takes messages alone."""

    def dialect(self, options: AnswerOptions) -> Dialect:
        """The conventions that a request needs."""
        return self.with_tools if options.has_tools else self.in_words


async def serve_answer(
    asked: AskedPrompt, options: AnswerOptions, served: Served, tell: Tell, note: Callable[[Event], None], *, seed: int
) -> Answer:
    """Answer one prompt piece by piece. `note` is called with every event of all attempts.

    Raises ContextFull where the prompt leaves no room for an answer, and faults of the machine.
    """
    dialect = served.dialect(options)
    agent = Agent(policy=served.policy, sandbox=served.sandbox, dialect=dialect, tools=served.tools)
    limits = AttemptLimits(rollout=options.rollout, correction=options.correction, attempts=options.attempts)
    pieces = Pieces(options, thinking_of(dialect), tell)

    def done(attempt: Attempt) -> None:
        tell(Piece(event=candidate_json(attempt)))

    ears = Ears(hear=pieces.add, note=note, done=done, is_live=options.is_stream)
    made = await answer(asked, limits, agent, served.choosers[options.select], ears, seed=seed)
    pieces.end()
    return replace(made, seed=options.seed)


class Pieces:
    """Events of one attempt as pieces of an answer: the text that is wanted, and thoughts apart from the rest."""

    def __init__(self, options: AnswerOptions, thinking: Thinking, tell: Tell) -> None:
        self._is_kept = options.transcript == "kept"
        self._thoughts = ThoughtReader(thinking)
        self._tell = tell

    def add(self, event: Event) -> None:
        """Send the part of an event that the client gets."""
        is_shown = (event.kind is Happening.STANDS) == self._is_kept
        reasoning, content = self._thoughts.split(event.text) if is_shown and event.text else ("", "")
        shown = None if event.kind in SILENT else event_json(event)
        if reasoning or content or shown:
            self._tell(Piece(content=content, reasoning=reasoning, event=shown))

    def end(self) -> None:
        """Send the text that was held back."""
        reasoning, content = self._thoughts.rest()
        if reasoning or content:
            self._tell(Piece(content=content, reasoning=reasoning))


class ThoughtReader:
    """Text that comes piece by piece, split into thoughts and the rest by the tags around the first thoughts.

    Programs within the thoughts, and what they printed, belong to them. A tag may be cut by the ends of pieces.
    """

    def __init__(self, thinking: Thinking) -> None:
        self._is_opened = thinking is Thinking.OPENED
        self._closing: tuple[str, ...] | None = None
        """Tags that end the thoughts; none are left after them; None before the first text."""
        self._held = ""

    def split(self, text: str) -> tuple[str, str]:
        """Thoughts, and the rest, of one more piece of text."""
        text, self._held = self._held + text, ""
        if self._closing is None:
            head = text.lstrip()
            if any(opens.startswith(head) for opens, _ in TAGS):
                self._held = text
                return "", ""
            tags = next((tags for tags in TAGS if head.startswith(tags[0])), None)
            if tags is not None:
                self._closing, text = tags[1:], head.removeprefix(tags[0])
            else:
                self._closing = tuple(closes for _, closes in TAGS) if self._is_opened else ()
        if not self._closing:
            return "", text
        places = [(place, tag) for tag in self._closing if (place := text.find(tag)) >= 0]
        if places:
            place, tag = min(places)
            self._closing = ()
            return text[:place], text[place + len(tag) :]
        cut = len(text) - max(_begun(text, tag) for tag in self._closing)
        self._held = text[cut:]
        return text[:cut], ""

    def rest(self) -> tuple[str, str]:
        """Thoughts, and the rest, of the text held back as the beginning of a tag that did not come."""
        text, self._held = self._held, ""
        return (text, "") if self._closing or (self._closing is None and self._is_opened) else ("", text)


def _begun(text: str, tag: str) -> int:
    """Characters at the end of a text with which a tag may begin."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


def event_json(event: Event) -> JsonObject:
    """An event as it stands in the field `thor` of a stream."""
    fields: JsonObject = {"kind": event.kind.value, "call": event.call, "repair": event.attempt}
    if event.kind is Happening.CODE:
        fields["code"] = event.code
        if event.tool != PYTHON:
            fields["tool"] = event.tool
    if event.result is not None:
        fields |= {"status": event.result.status.value, "error": event.result.error, "seconds": event.result.seconds}
    if event.kind is Happening.OUTPUT:
        fields["output"] = event.text
    return fields
