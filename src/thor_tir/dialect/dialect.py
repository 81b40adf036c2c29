"""A tokenizer and the conventions of one model: prompts to ids, sampled ids to thought and action, results to ids.

The thoughts of a reasoning model stand between tags; `Thinking` says who writes them and where its answer may stand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from thor_tir.dialect.fences import STOPS, FenceReading, first_block
from thor_tir.dialect.observation import ObservationConfig, frame, observed_text
from thor_tir.dialect.prompts import TOOLS, PromptStyle, messages, render
from thor_tir.execution import ExecutionResult
from thor_tir.pretrained import Tokenizer, Turn
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Thought, Trajectory

OPENS, CLOSES = "<think>", "</think>"


@dataclass(frozen=True, kw_only=True)
class DialectConfig:
    """How one model is spoken to."""

    style: PromptStyle = TOOLS
    """Instructions that the model gets beside the question."""
    is_reasoning: bool = False
    """Ask the chat template for a thinking turn; programs may stand inside `<think>`, the answer comes after it."""
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    """Text that the model reads of a program's end."""


class Dialect:
    """Stateless apart from the tokenizer; shared by every trajectory of a run."""

    def __init__(self, tokenizer: Tokenizer, config: DialectConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config or DialectConfig()
        self._end_ids = frozenset({tokenizer.eos_token_id} - {None})

    def stops(self, reading: FenceReading = "exact") -> tuple[str, ...]:
        """Stop strings for an engine: what can complete an action."""
        return STOPS[reading] if self.config.style.runs_programs else ()

    def prompt(self, text: str) -> Span:
        """The request for one question (or step) as ids."""
        return self.chat(messages(self.config.style, text))

    def chat(self, turns: Sequence[Turn]) -> Span:
        """Whole turns as ids, ready for the model's answer.

        A question that spells `<|end|>` must not end the user's turn: only the template may write control tokens.
        Raises jinja2's TemplateError for turns that the model's template refuses.
        """
        texts = {_place(number, turns): turn["content"] for number, turn in enumerate(turns)}
        spelled = {place: text for place, text in texts.items() if self._spells_control(text)}
        written = [
            {**turn, "content": place if place in spelled else turn["content"]}
            for turn, place in zip(turns, texts, strict=True)
        ]
        rest = render(self.tokenizer, written, is_reasoning=self.config.is_reasoning)
        ids: tuple[int, ...] = ()
        for place, text in spelled.items():
            head, found, tail = rest.partition(place)
            if found:  # a template may leave out a turn, most often the system's
                ids, rest = ids + self._with_controls(head) + self.encode(text), tail
        return Span(token_ids=ids + self._with_controls(rest), author=Author.PROMPT)

    def _spells_control(self, text: str) -> bool:
        return any(token in text for token in self.tokenizer.all_special_tokens)

    def _with_controls(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of text that no policy sampled. Names of special tokens within it stay plain text."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, without a trailing end-of-sequence token."""
        ids = list(token_ids)
        if ids and ids[-1] in self._end_ids:
            ids.pop()
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def split(
        self, span: Span, reading: FenceReading = "exact", *, kept: Sequence[int] = (), has_ended: bool = False
    ) -> tuple[Thought, Action | None]:
        """Sampled ids -> the thought, and the action if a program was closed.

        `kept` are ids of the same thought that stand before `span` already; they decide where a line begins.
        `has_ended` says that the model ended its turn with the last token of `span`; a closing fence right before it
        closes a program.

        The token that straddles thought and opening fence belongs to the action, as does the one that completes the
        closing line. Later tokens are dropped: an end of turn, which the environment's answer follows, and what an
        engine samples that stops too late.
        """
        whole = (*kept, *span.token_ids[: len(span) - has_ended])
        text = self.decode(whole)
        block = first_block(text, reading, has_ended=has_ended) if self.config.style.runs_programs else None
        if block is None:
            return Thought(text=self.decode(whole[len(kept) :]), span=span), None
        first = max(0, self.tokens_before(whole, block.start) - len(kept))
        last = self.tokens_before(whole, block.end)
        last = last + (len(self.decode(whole[:last])) < block.end) - len(kept)
        before = span[:first]
        thought = Thought(text=text[: block.start] if not kept else self.decode(before.token_ids), span=before)
        return thought, Action(code=block.code, span=span[first:last])

    def tokens_before(self, token_ids: Sequence[int], chars: int) -> int:
        """How many leading tokens lie wholly within the leading characters; bisection, since decoded length grows."""
        low, high = 0, len(token_ids)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.decode(token_ids[:middle])) <= chars:
                low = middle
            else:
                high = middle - 1
        return low

    def observe(self, result: ExecutionResult, *, after: Action | None = None) -> Observation:
        """The environment's answer; after a fence that ended a turn, the newline that is missing comes first."""
        text = observed_text(result, self.config.observation)
        is_cut = after is not None and not self.decode(after.span.token_ids).endswith("\n")
        span = Span(token_ids=self.encode("\n" * is_cut + frame(text)), author=Author.ENVIRONMENT)
        return Observation(text=text, span=span, result=result)


def _place(number: int, turns: Sequence[Turn]) -> str:
    """What stands for a turn's text while the template is rendered, and in no turn."""
    place = f"[the text of turn {number}]"
    while any(place in turn["content"] for turn in turns):
        place = f"[{place}]"
    return place


class Thinking(StrEnum):
    """Who writes the tags around a model's thoughts."""

    NONE = "none"
    """No tags: the model is not asked for a thinking turn."""
    OWN = "own"
    """The model writes both tags."""
    OPENED = "opened"
    """The prompt ends with the opening tag, so the response holds the closing one alone."""


def thinking_of(dialect: Dialect) -> Thinking:
    """How the thoughts of this model will be marked, seen from the prompt that its template makes."""
    if not dialect.config.is_reasoning:
        return Thinking.NONE
    opened = dialect.decode(dialect.prompt("?").token_ids).rstrip().endswith(OPENS)
    return Thinking.OPENED if opened else Thinking.OWN


def is_cut_short(trajectory: Trajectory, thinking: Thinking) -> bool:
    """True if a limit ended a model's turn while it still thought: it weighed candidates and has answered nothing."""
    text = trajectory.response_text
    thinks = thinking is Thinking.OPENED or (thinking is Thinking.OWN and text.lstrip().startswith(OPENS))
    return thinks and CLOSES not in text and trajectory.finish is not Finish.ENDED


def unless_cut_short(read: Callable[[Trajectory], str], thinking: Thinking) -> Callable[[Trajectory], str]:
    """What is graded of a trajectory, and nothing at all of one that was cut short in its thoughts."""

    def graded(trajectory: Trajectory) -> str:
        return "" if is_cut_short(trajectory, thinking) else read(trajectory)

    return graded
