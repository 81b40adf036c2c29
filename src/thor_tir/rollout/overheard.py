"""A rollout that is listened to: text as the model writes it, programs as they start and end, repairs as they begin.

The loop and self-correction know nothing of it. Policy and tools of an agent are wrapped, so that whoever samples or
runs a program through this agent is heard; the tokens of the trajectory are the same as without.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic

from thor_tir.engines.protocol import Policy, Sampling
from thor_tir.execution import NO_CALL_LEFT, ExecutionResult
from thor_tir.rollout.loop import Agent, Draft, StepRepair
from thor_tir.rollout.toolbox import ToolRunner
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.trajectory import PYTHON, Action, Completion, Decode, Step, Trajectory

PAUSE_S = 0.1
"""Tokens drawn within this many seconds of the last text are reported together."""
LONGEST_HELD = 64
"""Tokens that no text ends with, halves of characters that never become whole, are held back no longer than this."""


class Happening(StrEnum):
    """Kind of an event."""

    TEXT = "text"
    """The model has written more."""
    CODE = "code"
    """A program starts; its text has been reported already."""
    OUTPUT = "output"
    """A program has ended."""
    REPAIR = "repair"
    """A failed call begins to be written again; the text is a line that says so, and what is kept of the thought."""
    REPAIRED = "repaired"
    """The new call succeeded and stands in the failed one's place."""
    GIVEN_UP = "given_up"
    """No new call succeeded; the failed one stays."""
    DROPPED = "dropped"
    """No new call succeeded; the failed one is taken out, and the text is a line that says so, and what is kept."""
    STANDS = "stands"
    """The text now stands in the model's context: it repeats what was reported, without failed versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened while a trajectory grew."""

    kind: Happening
    """Kind of the event."""
    text: str = ""
    """Text that the transcript goes on with (of STANDS that of the context); empty where it was reported already."""
    call: int = 0
    """Number of the call that it is about, counted from 1; repairs of a call share its number. 0 for text."""
    attempt: int = 0
    """Number of the repair, counted from 1; 0 outside of repairs."""
    code: str = ""
    """Source of the program, where one starts or ends; arguments of another tool."""
    tool: str = PYTHON
    """Name of the tool that is called."""
    result: ExecutionResult | None = None
    """Result of the program, where one has ended; of the failed one, where a repair begins."""


Hear = Callable[[Event], None]
"""Function that is called with every event, at once and in order."""


class TextReader:
    """Token ids that come one by one, as text: never half a character."""

    def __init__(self, decode: Decode) -> None:
        self.num_tokens = 0
        """Tokens read so far."""
        self._decode = decode
        self._window: list[int] = []
        self._shown = 0
        """Leading tokens of the window whose text has been given out; they are kept, since text may depend on them."""

    def add(self, token_ids: Sequence[int], *, is_last: bool = False) -> str:
        """The text that these tokens complete; with `is_last` all that is left."""
        self.num_tokens += len(token_ids)
        self._window += token_ids
        before, now = self._decode(self._window[: self._shown]), self._decode(self._window)
        is_whole = not now.endswith("\ufffd") or len(self._window) - self._shown > LONGEST_HELD
        if len(now) <= len(before) or not (is_whole or is_last):
            return ""
        del self._window[: self._shown]
        self._shown = len(self._window)
        return now[len(before) :]


class Overheard:
    """An agent's policy and tools, listened to; one for each trajectory."""

    def __init__(self, agent: Agent, hear: Hear, *, is_live: bool = True) -> None:
        """Text is reported token by token if it `is_live`, else when the model's turn has ended, which costs less."""
        self.agent = replace(agent, policy=_HeardPolicy(agent.policy, self), tools=_HeardTools(agent.tools, self))
        """Agent to grow the trajectory with."""
        self.is_live = is_live
        """True where tokens are reported as they are drawn."""
        self._dialect = agent.dialect
        self._hear = hear
        self._call = 0
        self._attempt = 0
        self._failed: Step | None = None
        self._kept_from = 0
        self._context: Sequence[int] = ()
        self._stands_to: int | None = None
        self._unsettled = ""
        """Text since the context was last reported."""

    def repair(self, repair: StepRepair | None) -> StepRepair | None:
        """The same repair, listened to."""
        if repair is None:
            return None

        async def heard(draft: Draft, failed: Step) -> Step:
            self._failed, self._attempt, self._kept_from = failed, 0, len(draft.token_ids)
            self._context = ()
            try:
                step = await repair(draft, failed)
            finally:
                self._failed = None
            self._settle(step, failed)
            self._attempt = 0
            return step

        return heard

    def _settle(self, step: Step, failed: Step) -> None:
        """Tell what a repair has come to; nothing where none was tried and the failed call stays."""
        kind, text = Happening.REPAIRED, ""
        if step.is_dropped:
            kind, text = Happening.DROPPED, f"\n[call {self._call} is left out]\n{step.thought.text}"
        elif step.action is failed.action:
            kind, text = Happening.GIVEN_UP, f"\n[call {self._call} stays as it failed]\n"
        if self._attempt or kind is Happening.DROPPED:
            self._tell(Event(kind=kind, text=text, call=self._call, attempt=self._attempt))

    def begins(self, context: Sequence[int]) -> None:
        """The model is asked to go on from a context."""
        if self._failed is None:
            self._stands(context)
            return
        if self._context and list(context[: len(self._context)]) == list(self._context):
            return
        self._attempt += 1
        assert self._failed.observation is not None
        result = self._failed.observation.result
        kept = self._dialect.decode(context[self._kept_from :])
        line = f"\n[call {self._call} failed ({result.error or result.status}); repair {self._attempt}]\n"
        self._tell(
            Event(kind=Happening.REPAIR, text=line + kept, call=self._call, attempt=self._attempt, result=result)
        )

    def finished(self, trajectory: Trajectory) -> None:
        """The trajectory is whole."""
        self._stands([token for span in trajectory.spans for token in span.token_ids])

    def _stands(self, context: Sequence[int]) -> None:
        """Tell what has been added to the context for good; the first context is the prompt."""
        text = "" if self._stands_to is None else self._dialect.readable(context[self._stands_to :])
        self._stands_to = len(context)
        if text.startswith(self._unsettled) and (rest := text.removeprefix(self._unsettled)):
            # The environment speaks without a program only to say that no call is left.
            self._tell(Event(kind=Happening.OUTPUT, text=rest, call=self._call, result=NO_CALL_LEFT))
        if text:
            self._hear(Event(kind=Happening.STANDS, text=text))
        self._unsettled = ""

    def _tell(self, event: Event) -> None:
        self._unsettled += event.text
        self._hear(event)

    def reader(self) -> TextReader:
        """A reader for one completion."""
        return TextReader(self._dialect.decode)

    def writes(self, text: str) -> None:
        """The model has written more."""
        if text:
            self._tell(Event(kind=Happening.TEXT, text=text, attempt=self._attempt))

    def ends(self, context: Sequence[int]) -> None:
        """The model has written what `context` ends with."""
        self._context = context

    def starts(self, action: Action) -> None:
        """A call starts."""
        self._call += self._attempt == 0
        self._hear(
            Event(kind=Happening.CODE, call=self._call, attempt=self._attempt, code=action.code, tool=action.tool)
        )

    def ended(self, action: Action, result: ExecutionResult) -> None:
        """A call has ended."""
        seen = self._dialect.observe(result, after=action)
        self._tell(
            Event(
                kind=Happening.OUTPUT,
                text=self._dialect.readable(seen.span.token_ids),
                call=self._call,
                attempt=self._attempt,
                code=action.code,
                tool=action.tool,
                result=result,
            )
        )


class _HeardPolicy:
    def __init__(self, policy: Policy, overheard: Overheard) -> None:
        self._policy = policy
        self._overheard = overheard

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        overheard = self._overheard
        overheard.begins(token_ids)
        reader, drawn, written_at = overheard.reader(), list[int](), 0.0

        def heard(token: int) -> None:
            nonlocal written_at
            drawn.append(token)
            if (now := monotonic()) >= written_at + PAUSE_S:
                written_at = now
                overheard.writes(reader.add(drawn[reader.num_tokens :]))

        live = replace(sampling, heard=heard) if overheard.is_live else sampling
        completion = await self._policy.sample(token_ids, live)
        overheard.writes(reader.add(completion.span.token_ids[reader.num_tokens :], is_last=True))
        overheard.ends([*token_ids, *completion.span.token_ids])
        return completion

    def attend(self) -> AbstractContextManager[None]:
        return self._policy.attend()


class _HeardTools:
    def __init__(self, tools: ToolRunner, overheard: Overheard) -> None:
        self._tools = tools
        self._overheard = overheard

    async def run(self, action: Action, sandbox: Sandbox, earlier: Sequence[Step] = ()) -> ExecutionResult:
        self._overheard.starts(action)
        result = await self._tools.run(action, sandbox, earlier)
        self._overheard.ended(action, result)
        return result
