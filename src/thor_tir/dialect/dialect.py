"""A tokenizer and the conventions of one model: prompts to ids, sampled ids to thought and action, results to ids.

The thoughts of a reasoning model stand between tags; `Thinking` says who writes them and where its answer may stand.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Literal

from thor_tir.chat_template import TAGS, ResultTurn, control_ids, declares, form_of, rendered, result_turn, turn_ends
from thor_tir.dialect import tool_calls
from thor_tir.dialect.fences import CLOSE, OPEN, STOPS, Block, FenceReading, first_block
from thor_tir.dialect.observation import ObservationConfig, frame, observed_text
from thor_tir.dialect.prompts import TOOLS, PromptStyle, in_dialect, messages
from thor_tir.errors import UsageError
from thor_tir.execution import ExecutionResult
from thor_tir.pretrained import ChatTurn, Tokenizer
from thor_tir.storage.journal import JsonObject
from thor_tir.tools.protocol import ToolSpec, python_spec
from thor_tir.trajectory import PYTHON, Action, Author, Finish, Observation, Span, Thought, Trajectory

_LOG = logging.getLogger(__name__)

DialectName = Literal["fences", "tool-call", "auto"]
"""Spelling of calls."""


@dataclass(frozen=True, kw_only=True)
class DialectConfig:
    """Conventions of the conversation with one model."""

    style: PromptStyle = TOOLS
    """Instructions that the model gets beside the question."""
    is_reasoning: bool = False
    """Ask the chat template for a thinking turn; programs may stand inside `<think>`, the answer comes after it."""
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    """Text that the model reads of a program's end."""
    calls: DialectName = "fences"
    """Spelling of calls: programs between `fences`, as in the paper; `tool-call` is JSON between <tool_call> tags, as
    Hermes and Qwen write it, with results in turns of their own; `auto` takes tool-call where other tools are given or
    the model's chat template declares tools in that form, else fences."""
    tools: tuple[ToolSpec, ...] = ()
    """Tools beside Python, which only tool-call can name."""
    keeps_state: bool = False
    """True where programs know the earlier ones of their trajectory, which the rules then say."""


def in_tool_calls(style: PromptStyle, tools: Sequence[ToolSpec], *, keeps_state: bool = False) -> PromptStyle:
    """A style for calls between tags, its tools in words, as for a chat template that does not declare them."""
    style = in_dialect(style, is_fenced=False, keeps_state=keeps_state)
    declared = tool_calls.declaration((python_spec(keeps_state=keeps_state), *tools))
    return replace(style, system=f"{style.system}\n\n{declared}")


class Dialect:
    """Stateless apart from the tokenizer; shared by every trajectory of a run.

    Raises UsageError for a chat template that leaves out what a model is asked.
    """

    def __init__(self, tokenizer: Tokenizer, config: DialectConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config or DialectConfig()
        self.ends = turn_ends(tokenizer)
        """Tokens that end a turn."""
        self.form = form_of(tokenizer, thinks=self.config.is_reasoning)
        """Form in which the chat template takes rules and question."""
        self._controls = control_ids(tokenizer)
        self._schemas = [
            tool.schema() for tool in (python_spec(keeps_state=self.config.keeps_state), *self.config.tools)
        ]
        self._is_declared = self._template_declares()
        self.is_fenced = self._finds_fenced()
        """True where calls are programs between fences."""
        self._results = None if self.is_fenced else self._result_turn()
        self._most_chars = {tool.name: tool.max_chars for tool in self.config.tools}
        self.config = replace(self.config, style=self._style())
        if not self.config.is_reasoning and thinking_of(self) is Thinking.OPENED:
            _LOG.warning(
                "the chat template of %s opens the model's thoughts although no thinking turn was asked for: give "
                "--reasoning; an answer that stands in unfinished thoughts counts for nothing",
                getattr(tokenizer, "name_or_path", "") or "the model",
            )

    def _template_declares(self) -> bool:
        if self.config.calls == "fences":
            return False
        mark, thinks = tool_calls.OPEN, self.config.is_reasoning
        return declares(self.tokenizer, self.form, self._schemas, mark, thinks=thinks)

    def _finds_fenced(self) -> bool:
        name, tools = self.config.calls, self.config.tools
        if name == "fences" and tools:
            raise UsageError(f"the tool {tools[0].name} cannot be called between fences; give --dialect tool-call")
        return name == "fences" or (name == "auto" and not tools and not self._is_declared)

    def _result_turn(self) -> ResultTurn:
        call = tool_calls.written_call(PYTHON, "")
        thinks = self.config.is_reasoning
        return result_turn(self.tokenizer, self.form, call, tool_calls.framed, thinks=thinks)

    def _style(self) -> PromptStyle:
        """The style with its rules for this dialect, and what the template does not say of tools."""
        keeps = self.config.keeps_state
        style = in_dialect(self.config.style, is_fenced=self.is_fenced, keeps_state=keeps)
        if self.is_fenced or self._is_declared or not style.runs_programs:
            return style
        return in_tool_calls(self.config.style, self.config.tools, keeps_state=keeps)

    @property
    def about(self) -> JsonObject:
        """The dialect, for a run's record."""
        return {
            "calls": "fences" if self.is_fenced else "tool-call",
            "tools": [PYTHON, *self._most_chars],
            "declared_by": "template" if self._is_declared else "rules",
            "results_in": "turn" if self._results is None else "tool" if self._results.has_role else "user",
        }

    @property
    def declared(self) -> Sequence[JsonObject]:
        """Schemas of the tools that the chat template declares itself."""
        return self._schemas if self._is_declared and self.config.style.runs_programs else ()

    def stops(self, reading: FenceReading = "exact") -> tuple[str, ...]:
        """Stop strings for an engine: what can complete an action."""
        if not self.config.style.runs_programs:
            return ()
        return STOPS[reading] if self.is_fenced else (tool_calls.CLOSE,)

    def prompt(self, text: str, system: str = "") -> Span:
        """The request for one question (or step) as ids; `system` is what its source says before it."""
        return self.chat(messages(self.config.style, text, system))

    def chat(self, turns: Sequence[ChatTurn]) -> Span:
        """Whole turns as ids, ready for the model's answer.

        A question that spells `<|end|>` must not end the user's turn: only the template may write control tokens.
        Raises UsageError for turns that the model's template refuses.
        """
        texts = {_place(number, turns): turn["content"] for number, turn in enumerate(turns)}
        spelled = {place: text for place, text in texts.items() if self._spells_control(text)}
        written = [
            {**turn, "content": place if place in spelled else turn["content"]}
            for turn, place in zip(turns, texts, strict=True)
        ]
        thinks = self.config.is_reasoning
        rest = rendered(self.tokenizer, self.form.applied(written), thinks=thinks, tools=self.declared)
        ids: tuple[int, ...] = ()
        for place, text in spelled.items():
            head, found, tail = rest.partition(place)
            if found:  # a template may leave out a turn, most often the system's
                ids, rest = ids + self._with_controls(head) + self.encode_foreign(text), tail
        return Span(token_ids=ids + self._with_controls(rest), author=Author.PROMPT)

    def _spells_control(self, text: str) -> bool:
        return not self._controls.isdisjoint(self._with_controls(text))

    def _with_controls(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of text in the model's voice. Names of special tokens within it stay plain text; other added tokens, such
        as the tags around thoughts, are what they are in the model's own turns."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return tuple(ids)

    def encode_foreign(self, text: str) -> tuple[int, ...]:
        """Ids of text that neither the model nor its template wrote: no added token is in it, whatever it spells."""
        ids = self.encode(text)
        if self._controls.isdisjoint(ids):
            return ids
        names = [name for name, token_id in self.tokenizer.get_added_vocab().items() if token_id in self._controls]
        starts = {place for name in names for place in range(len(text)) if text.startswith(name, place)}
        cuts = [0, *sorted(start + 1 for start in starts if start + 1 < len(text)), len(text)]
        ids = tuple(token_id for start, end in pairwise(cuts) for token_id in self.encode(text[start:end]))
        if self._controls.isdisjoint(ids):
            return ids
        return tuple(token_id for character in text for token_id in self.encode(character))  # spelled in a new way

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, without a trailing end-of-sequence token."""
        ids = list(token_ids)
        if ids and ids[-1] in self.ends.ids:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def split(
        self, span: Span, reading: FenceReading = "exact", *, kept: Sequence[int] = (), has_ended: bool = False
    ) -> tuple[Thought, Action | None]:
        """Split sampled ids into the thought, and the action if a program was closed.

        `kept` are ids of the same thought that stand before `span` already; they decide where a line begins.
        `has_ended` says that the model ended its turn with the last token of `span`; a closing fence right before it
        closes a program.

        The token that straddles thought and opening fence belongs to the action, as does the one that completes the
        closing line. Later tokens are dropped: an end of turn, which the environment's answer follows, and what an
        engine samples that stops too late.
        """
        whole = (*kept, *span.token_ids[: len(span) - has_ended])
        text = self.decode(whole)
        block = self._first_call(text, reading, has_ended=has_ended) if self.config.style.runs_programs else None
        if block is None:
            return Thought(text=self.decode(whole[len(kept) :]), span=span), None
        first = max(0, self.tokens_before(whole, block.start) - len(kept))
        last = self.tokens_before(whole, block.end)
        last = last + (len(self.decode(whole[:last])) < block.end) - len(kept)
        before = span[:first]
        thought = Thought(text=text[: block.start] if not kept else self.decode(before.token_ids), span=before)
        return thought, Action(code=block.code, span=span[first:last], tool=block.tool)

    def _first_call(self, text: str, reading: FenceReading, *, has_ended: bool) -> Block | None:
        if self.is_fenced:
            return first_block(text, reading, has_ended=has_ended)
        return tool_calls.first_call(text, reading)

    def call(self, code: str, tool: str = PYTHON) -> Action:
        """A call in the model's voice that no policy sampled; where a turn ends with it, the turn's end included."""
        if self.is_fenced and tool != PYTHON:
            raise UsageError(f"a call of the tool {tool} cannot be written between fences; give --dialect tool-call")
        if self.is_fenced:
            ids = self.encode(f"{OPEN}\n{code}{CLOSE}\n")
        else:
            ids = self._tagged(tool_calls.written_call(tool, code)) + self._turn_end
        return Action(code=code, span=Span(token_ids=ids, author=Author.MODEL), tool=tool)

    def writes(self, action: Action) -> bool:
        """True where the tokens of a call are read as that call here."""
        text = self.decode(action.span.token_ids)
        readings: tuple[FenceReading, ...] = ("exact", "blanks", "lenient")
        found = (self._first_call(text, reading, has_ended=True) for reading in readings)
        return any(block is not None and (block.code, block.tool) == (action.code, action.tool) for block in found)

    def _tagged(self, text: str) -> tuple[int, ...]:
        """Ids of a call, whose outer tags are control tokens where the tokenizer has them as such."""
        ids = self.encode(text)
        added = self.tokenizer.get_added_vocab()
        if tool_calls.OPEN not in added or tool_calls.CLOSE not in added or added[tool_calls.OPEN] in ids:
            return ids
        inner = text.removeprefix(tool_calls.OPEN).removesuffix(tool_calls.CLOSE)
        return (added[tool_calls.OPEN], *self.encode(inner), added[tool_calls.CLOSE])

    @property
    def _turn_end(self) -> tuple[int, ...]:
        """The token with which a turn of the model ends before a result; none where results need no turn."""
        first = self._with_controls("" if self._results is None else self._results.before)[:1]
        return tuple(token for token in first if token in self.ends.ids)

    def tokens_before(self, token_ids: Sequence[int], chars: int) -> int:
        """Number of leading tokens wholly within the leading characters; bisection, since decoded length grows."""
        low, high = 0, len(token_ids)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.decode(token_ids[:middle])) <= chars:
                low = middle
            else:
                high = middle - 1
        return low

    def observe(self, result: ExecutionResult, *, after: Action | None = None) -> Observation:
        """The environment's answer to a call, which follows the call's tokens."""
        shown = self.config.observation
        most = None if after is None else self._most_chars.get(after.tool)
        text = observed_text(result, shown if most is None else replace(shown, max_chars=most))
        if self._results is not None:
            text = tool_calls.disarmed(text)
        ids = self.result_ids(text, after=after)
        return Observation(text=text, span=Span(token_ids=ids, author=Author.ENVIRONMENT), result=result)

    def result_ids(self, text: str, *, after: Action | None = None) -> tuple[int, ...]:
        """Ids of an observation's text in its frame; a line break, or the turn's end, comes first where the call lacks
        it.
        """
        written = () if after is None else after.span.token_ids
        if self._results is None:
            is_cut = after is not None and not self.decode(written).endswith("\n")
            return self.encode_foreign("\n" * is_cut + frame(text))
        before, then, text = self._results.before, self._results.after, tool_calls.disarmed(text)
        if self._spells_control(text):
            ids = self._with_controls(before) + self.encode_foreign(text) + self._with_controls(then)
        else:
            ids = self._with_controls(before + text + then)
        return ids[1:] if written and written[-1:] == self._turn_end else ids

    def readable(self, token_ids: Sequence[int]) -> str:
        """The text of ids for people: results in turns of their own stand between lines, without the turns' marks."""
        text = self.decode(token_ids)
        if self._results is None:
            return text
        marks = (self._results.before.removesuffix(_OPENING), self._results.after.removeprefix(_CLOSING))
        for mark in marks:
            text = text.replace(mark, "\n") if mark else text
        return text


_OPENING, _CLOSING = f"{tool_calls.RESULT_OPEN}\n", f"\n{tool_calls.RESULT_CLOSE}"


def _place(number: int, turns: Sequence[ChatTurn]) -> str:
    """A placeholder for a turn's text while the template is rendered; it occurs in no turn."""
    place = f"[the text of turn {number}]"
    while any(place in turn["content"] for turn in turns):
        place = f"[{place}]"
    return place


class Thinking(StrEnum):
    """Author of the tags around a model's thoughts."""

    NONE = "none"
    """No tags: the model is not asked for a thinking turn."""
    OWN = "own"
    """The model writes both tags."""
    OPENED = "opened"
    """The prompt ends with the opening tag, so the response holds the closing one alone."""


def thinking_of(dialect: Dialect) -> Thinking:
    """Marks of this model's thoughts, by the prompt that its template makes, whether or not thoughts were asked for."""
    prompt = dialect.tokenizer.decode(dialect.prompt("?").token_ids, clean_up_tokenization_spaces=False).rstrip()
    if any(prompt.endswith(opens) for opens, _ in TAGS):
        return Thinking.OPENED
    return Thinking.OWN if dialect.config.is_reasoning else Thinking.NONE


def is_cut_short(trajectory: Trajectory, thinking: Thinking) -> bool:
    """True if a limit ended a model's turn while it still thought: it weighed candidates and has answered nothing."""
    text = trajectory.response_text
    last = trajectory.steps[-1].thought.text if trajectory.steps else ""
    if any(last.lstrip().startswith(opens) for opens, _ in TAGS):  # of a turn of its own, behind a result
        text = last
    begun = [closes for opens, closes in TAGS if text.lstrip().startswith(opens)]
    if thinking is Thinking.OPENED and not begun:
        begun = [closes for _, closes in TAGS]
    return bool(begun) and not any(closes in text for closes in begun) and trajectory.finish is not Finish.ENDED


def unless_cut_short(read: Callable[[Trajectory], str], thinking: Thinking) -> Callable[[Trajectory], str]:
    """A reader like `read`, except that a trajectory cut short in its thoughts reads as empty and so scores nothing."""

    def graded(trajectory: Trajectory) -> str:
        return "" if is_cut_short(trajectory, thinking) else read(trajectory)

    return graded
