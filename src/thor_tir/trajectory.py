"""A trajectory: thoughts, actions and observations as the token ids that were read and written (paper, section 2.1).

Concatenating the spans gives exactly the ids the model read and wrote. Nothing on the training path is ever decoded and
encoded again, and `flatten` is the only place that says which tokens are trained.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from thor_tir.execution import CallSuccess, ExecutionResult, Status

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens included; for reading only, never on the training path."""


PYTHON = "python"
"""Name of the tool that runs programs."""


class Author(StrEnum):
    """The author of a token in the context: the one source of every loss mask."""

    PROMPT = "prompt"
    MODEL = "model"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of tokens by one author."""

    token_ids: tuple[int, ...]
    """Token ids, in order."""
    author: Author
    """Author of the tokens."""
    logprobs: tuple[float, ...] | None = None
    """Nats, under the policy that sampled each token; None where no policy of this run sampled it."""
    versions: tuple[int, ...] | None = None
    """Version of the weights that sampled each token; None where it is that of the whole trajectory."""

    def __post_init__(self) -> None:
        if self.versions is not None and len(self.versions) != len(self.token_ids):
            raise ValueError(f"{len(self.versions)} versions for {len(self.token_ids)} tokens")
        if self.logprobs is not None:
            if len(self.logprobs) != len(self.token_ids):
                raise ValueError(f"{len(self.logprobs)} log-probabilities for {len(self.token_ids)} tokens")
            if self.author is not Author.MODEL:
                raise ValueError(f"a span by the {self.author} was not sampled, so it has no log-probabilities")

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, cut: slice) -> "Span":
        """The tokens of a slice, with the same author."""
        logprobs = None if self.logprobs is None else self.logprobs[cut]
        versions = None if self.versions is None else self.versions[cut]
        return Span(token_ids=self.token_ids[cut], author=self.author, logprobs=logprobs, versions=versions)

    def __add__(self, other: "Span") -> "Span":
        """Both runs as one; the authors must agree, and log-probabilities and versions survive where both have them."""
        if self.author is not other.author:
            raise ValueError(f"spans by the {self.author} and by the {other.author} cannot be one span")
        known = self.logprobs is not None and other.logprobs is not None
        logprobs = (*self.logprobs, *other.logprobs) if known else None  # type: ignore[misc]
        dated = self.versions is not None and other.versions is not None
        versions = (*self.versions, *other.versions) if dated else None  # type: ignore[misc]
        ids = self.token_ids + other.token_ids
        return Span(token_ids=ids, author=self.author, logprobs=logprobs, versions=versions)


class StopReason(StrEnum):
    """The reason for which an engine stopped."""

    END = "end"
    """The model sampled an end-of-sequence token, which is the span's last."""
    STOP = "stop"
    """A stop sequence was completed by the span's last token."""
    LENGTH = "length"
    """`max_tokens` were sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The reply of an engine; its text is the dialect's business."""

    span: Span
    """Tokens that were sampled, with their log-probabilities."""
    stop: StopReason
    """Reason why sampling ended."""
    policy_version: int = 0
    """Version of the weights that sampled its last token."""
    versions: tuple[int, ...] | None = None
    """Version of the weights that sampled each token, where they changed on the way; None where one sampled all."""
    num_tokens: int | None = None
    """Sampled tokens as a server counted them, where the span's ids are not the model's own; None elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """r_t: reasoning before a call."""

    text: str
    """Decoded text."""
    span: Span
    """Tokens of the thought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """a_t: one call, fences or tags included in its span. A token that straddles thought and fence belongs to it."""

    code: str
    """Source of the program, without its fences; for another tool its arguments as JSON; for a call that cannot be read
    the text between its tags."""
    span: Span
    """Tokens of the call, fences included."""
    tool: str = PYTHON
    """Name of the tool that is called; empty for a call that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """o_t: the environment's text in the context after running the action."""

    text: str
    """Text of the observation, without its frame."""
    span: Span
    """Tokens of the observation, frame included."""
    result: ExecutionResult
    """Result of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn of think, act, observe. The last step of a trajectory may be a thought alone."""

    thought: Thought
    """Reasoning before the call."""
    action: Action | None = None
    """Call that was made, or refused where none was left; None in a step without one."""
    observation: Observation | None = None
    """Answer of the environment; None where nothing ran."""
    discarded: tuple["Step", ...] = ()
    """Failed versions of this step that self-correction cut away: a record, not part of the context."""

    def __post_init__(self) -> None:
        if (self.action is None) != (self.observation is None):
            raise ValueError("an observation exists if and only if there is an action")

    @property
    def is_refused(self) -> bool:
        """True where a program was written and not run, since no call was left."""
        return self.observation is not None and self.observation.result.status is Status.NOT_RUN

    @property
    def is_dropped(self) -> bool:
        """True where its call failed in every version and was taken out of the context: a thought alone is left."""
        return self.action is None and bool(self.discarded)

    @property
    def is_call(self) -> bool:
        """True where a program was run."""
        return self.observation is not None and not self.is_refused

    @property
    def ran(self) -> bool:
        """True where it made a call that ran to its end, whether or not it printed anything."""
        return self.observation is not None and self.observation.result.ran

    @property
    def failed(self) -> bool:
        """True where it made a call and the call is no success by the usual rule."""
        return self.fails()

    @property
    def succeeded(self) -> bool:
        """True where it made a call and the call is a success by the usual rule."""
        return self.succeeds()

    def fails(self, rule: CallSuccess = "printed") -> bool:
        """True where it made a call and the call is no success by that rule."""
        return self.is_call and not self.succeeds(rule)

    def succeeds(self, rule: CallSuccess = "printed") -> bool:
        """True where it made a call and the call is a success by that rule."""
        return self.observation is not None and self.observation.result.succeeds(rule)

    @property
    def spans(self) -> tuple[Span, ...]:
        """All spans in the order of the context."""
        if self.action is None or self.observation is None:
            return (self.thought.span,)
        return (self.thought.span, self.action.span, self.observation.span)

    @property
    def num_sampled(self) -> int:
        """Tokens of it that the model sampled, its discarded versions left aside."""
        return sum(len(span) for span in self.spans if span.author is Author.MODEL)


class Finish(StrEnum):
    """The way a trajectory ended."""

    ENDED = "ended"
    """The model ended its turn."""
    TOKEN_LIMIT = "token_limit"
    CALL_LIMIT = "call_limit"
    """The model asked for one more call than it may make, and the run ends attempts there."""
    FAILED_CALL = "failed_call"
    """Stopped at its first failed call, where the run asks for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One attempt at one problem."""

    id: str
    """Unique within a run: problem, sample number and whatever else distinguishes attempts."""
    problem_id: str
    """Id of the problem."""
    prompt: Span
    """Tokens of the prompt."""
    steps: tuple[Step, ...]
    """Steps in order."""
    finish: Finish
    """Way in which the trajectory ended."""
    policy_version: int = 0
    """Version of the weights that sampled it; of its last token where its spans say more."""

    @property
    def oldest_version(self) -> int:
        """Version of the oldest weights that sampled a token of it."""
        return min((v for span in self.spans for v in span.versions or ()), default=self.policy_version)

    @property
    def spans(self) -> Iterator[Span]:
        """Prompt first, then every step's spans in the order of the context."""
        yield self.prompt
        for step in self.steps:
            yield from step.spans

    @property
    def calls(self) -> tuple[Step, ...]:
        """The steps whose program was run."""
        return tuple(step for step in self.steps if step.is_call)

    @property
    def wanted_more_calls(self) -> bool:
        """True where the model asked for a call when none was left."""
        return self.finish is Finish.CALL_LIMIT or any(step.is_refused for step in self.steps)

    @property
    def response_text(self) -> str:
        """The model's text outside of code: where an answer may be looked for (never in a tool's output)."""
        return "".join(step.thought.text for step in self.steps)

    @property
    def num_model_tokens(self) -> int:
        """Tokens the model sampled, discarded repairs included: the cost of this trajectory."""
        return sum(each.num_sampled for step in self.steps for each in (step, *step.discarded))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """pref(tau, t): everything up to r_t_pre, from which a failed step is sampled again (paper, section 2.3.2)."""

    spans: tuple[Span, ...]
    """Prompt, earlier steps, and last the kept part of the failing thought (possibly empty)."""
    parent: str
    """Id of the trajectory it was cut from."""
    call: int
    """Number of the step of the parent that failed, counted from 0."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens that the engine reads."""
        return tuple(token for span in self.spans for token in span.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """Spans laid side by side, one entry per token."""

    token_ids: tuple[int, ...]
    """Token ids of all spans."""
    authors: tuple[Author, ...]
    """Author of each token."""
    trained: tuple[bool, ...]
    """True for each token that the loss is taken over."""
    logprobs: tuple[float, ...]
    """NaN where no policy of this run sampled the token, so that misuse is loud."""
    versions: tuple[int, ...]
    """Version of the weights that sampled each token; at tokens of others that of the whole."""


def flatten(spans: Iterable[tuple[Span, bool]], version: int = 0) -> Flat:
    """Lay spans side by side. A token is trained if and only if the model is its author and its span is marked True.

    `version` is that of spans which say none.
    """
    ids: list[int] = []
    authors: list[Author] = []
    trained: list[bool] = []
    logprobs: list[float] = []
    versions: list[int] = []
    for span, is_trained in spans:
        n = len(span)
        ids += span.token_ids
        authors += [span.author] * n
        trained += [is_trained and span.author is Author.MODEL] * n
        logprobs += span.logprobs if span.logprobs is not None else [float("nan")] * n
        versions += span.versions if span.versions is not None else [version] * n
    return Flat(
        token_ids=tuple(ids),
        authors=tuple(authors),
        trained=tuple(trained),
        logprobs=tuple(logprobs),
        versions=tuple(versions),
    )


def with_versions(step: Step, versions: Sequence[int]) -> Step:
    """The step, each of whose tokens that the model wrote says which weights sampled it, in order."""
    cut = len(step.thought.span)
    thought = replace(step.thought, span=replace(step.thought.span, versions=tuple(versions[:cut])))
    if step.action is None:
        return replace(step, thought=thought)
    action = replace(step.action, span=replace(step.action.span, versions=tuple(versions[cut:])))
    return replace(step, thought=thought, action=action)


def dated(step: Step, version: int) -> Step:
    """The step, whose tokens say which weights sampled them: those of `version` where it does not say so already."""
    return step if step.thought.span.versions is not None else with_versions(step, [version] * step.num_sampled)


def with_discarded(step: Step, discarded: tuple[Step, ...]) -> Step:
    """The step that stands, with the failed versions it replaces."""
    return replace(step, discarded=discarded)
