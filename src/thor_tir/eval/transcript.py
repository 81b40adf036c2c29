"""A trajectory as people see it: its text in pieces by author, each call with how it ended, and these on a terminal.

The terminal and the HTML report show the same pieces. Text is decoded for reading only: it never goes back into token
ids. Everything that a model or a program wrote is untrusted: it is never read as rich markup, and control characters
are shown as escapes, so that no byte of it can steer the terminal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from thor_tir.console import visible
from thor_tir.dialect.tool_calls import in_fences
from thor_tir.execution import Status
from thor_tir.inference.self_correction import RepairCost, repair_cost
from thor_tir.problem import Problem
from thor_tir.storage.trajectory_json import trajectory_to_json
from thor_tir.trajectory import Decode, Step, Trajectory
from thor_tir.verdict import Outcome, Verdict


class SegmentKind(StrEnum):
    """Part of the interaction that a segment shows (paper, section 2.1)."""

    PROMPT = "prompt"
    THOUGHT = "thought"
    ACTION = "action"
    OBSERVATION = "observation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of text by one author, for display."""

    author: SegmentKind
    """Part of the interaction."""
    text: str
    """Text, decoded for reading."""
    status: Status | None = None
    """Status of the call; for actions and observations only."""
    discarded: str = ""
    """Empty where the segment stands in the context, else which failed version it belongs to: `attempt 1 of 4`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRepair:
    """A failed call written again from its backtracked prefix, by step-level training or by self-correction."""

    call: int
    """Number of the step that it repairs, counted from 0."""
    segments: tuple[Segment, ...]
    """The new call, and what it printed."""
    reward: float
    """Reward of the new call; by default 1 where it succeeded."""
    status: Status | None
    """Status of the new call; None where it made none."""


class SegmentRow(TypedDict):
    """A segment as it stands in `trajectories.jsonl`."""

    author: str
    """Part of the interaction."""
    text: str
    """Text, decoded for reading."""
    status: str | None
    """Status of the call; for actions and observations only."""


class RepairRow(TypedDict):
    """A repair as it stands there."""

    call: int
    """Step that it repairs, counted from 0."""
    segments: list[SegmentRow]
    """The new call, and what it printed."""
    reward: float
    """Reward of the new call; by default 1 where it succeeded."""
    status: str | None
    """Status of the new call; null where it made none."""


class Exhibit(TypedDict):
    """One line of `trajectories.jsonl`."""

    stage: str
    """Place in the run where it was sampled."""
    problem: dict[str, str]
    """Id, question, answer and source of the problem."""
    trajectory: Mapping[str, Any]
    """The archived trajectory."""
    segments: list[SegmentRow]
    """Its text by author."""
    outcome: str
    """Outcome of the verdict."""
    extracted: str | None
    """Answer that was found."""
    repairs: list[RepairRow]
    """Failed calls that were written again."""
    rewards: NotRequired[dict[str, float]]
    """Each reward that the run names, before weights; absent where the answer is the reward."""


def segments_of(trajectory: Trajectory, decode: Decode) -> tuple[Segment, ...]:
    """Prompt, then every step; the versions that self-correction cut away stand before the step that replaced them."""
    shown = [Segment(author=SegmentKind.PROMPT, text=decode(trajectory.prompt.token_ids))]
    for step in trajectory.steps:
        for number, old in enumerate(step.discarded, 1):
            label = f"attempt {number} of {len(step.discarded)}"
            shown += [replace(segment, discarded=label) for segment in step_segments(old, decode)]
        shown += step_segments(step, decode)
    return tuple(shown)


def step_segments(step: Step, decode: Decode) -> tuple[Segment, ...]:
    """Thought, action between fences, observation; an empty thought is left out."""
    shown = [Segment(author=SegmentKind.THOUGHT, text=step.thought.text)] if step.thought.text.strip() else []
    if step.action is not None and step.observation is not None:
        status = step.observation.result.status
        text = in_fences(decode(step.action.span.token_ids))
        shown.append(Segment(author=SegmentKind.ACTION, text=text, status=status))
        shown.append(Segment(author=SegmentKind.OBSERVATION, text=step.observation.text, status=status))
    return tuple(shown)


def discarded_repairs(trajectory: Trajectory, decode: Decode) -> Iterator[ShownRepair]:
    """The failed versions that self-correction cut away, under the call that stands in their place."""
    for call, step in enumerate(trajectory.steps):
        for old in step.discarded:
            status = None if old.observation is None else old.observation.result.status
            yield ShownRepair(call=call, segments=step_segments(old, decode), reward=int(old.succeeded), status=status)


def exhibit(
    problem: Problem,
    trajectory: Trajectory,
    *,
    stage: str,
    verdict: Verdict,
    decode: Decode,
    repairs: Sequence[ShownRepair] = (),
    rewards: Mapping[str, float] | None = None,
) -> Exhibit:
    """One line of a run's `trajectories.jsonl`: the archived trajectory and what the report's browser shows of it.

    `stage` says where in the run it was sampled, e.g. `eval/rl` or `rl/step 12`; `repairs` are step-level samples, to
    which the trajectory's own discarded versions are added.
    """
    standing = [segment for segment in segments_of(trajectory, decode) if not segment.discarded]
    row: Exhibit = {
        "stage": stage,
        "problem": {"id": problem.id, "question": problem.question, "answer": problem.answer, "source": problem.source},
        "trajectory": trajectory_to_json(trajectory),
        "segments": [_segment_to_json(segment) for segment in standing],
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "repairs": [_repair_to_json(repair) for repair in (*discarded_repairs(trajectory, decode), *repairs)],
    }
    if rewards is not None:
        row["rewards"] = dict(rewards)
    return row


def _segment_to_json(segment: Segment) -> SegmentRow:
    return {
        "author": segment.author.value,
        "text": segment.text,
        "status": None if segment.status is None else segment.status.value,
    }


def _repair_to_json(repair: ShownRepair) -> RepairRow:
    return {
        "call": repair.call,
        "segments": [_segment_to_json(segment) for segment in repair.segments],
        "reward": repair.reward,
        "status": None if repair.status is None else repair.status.value,
    }


def cost_sentence(trajectories: Sequence[Trajectory]) -> str:
    """Calls, what became of those that failed, and tokens."""
    cost = sum(map(repair_cost, trajectories), RepairCost())
    calls = [step for trajectory in trajectories for step in trajectory.calls]
    parts = [f"{sum(step.succeeded for step in calls)} of {len(calls)} calls succeeded"]
    if cost.retries or cost.dropped:
        dropped = f", {cost.dropped} dropped" if cost.dropped else ""
        parts.append(
            f"{cost.repaired} of {cost.failed} that failed repaired in {cost.retries} retries{dropped}: "
            f"{cost.discarded_calls} programs and {cost.discarded_tokens} tokens discarded"
        )
    return "; ".join([*parts, f"{sum(trajectory.num_model_tokens for trajectory in trajectories)} tokens"])


DISCARDED_INDENT = 4
"""Columns by which a discarded version stands aside of the text that counts."""

_OUTCOME_STYLE = {Outcome.CORRECT: "bold green", Outcome.WRONG: "bold red", Outcome.UNSCORED: "bold yellow"}


def rendered_transcript(
    segments: Sequence[Segment], *, answer: str | None = None, outcome: Outcome | None = None, show_prompt: bool = False
) -> RenderableType:
    """Segments in their order, then the answer that was found in them.

    `answer` is None where none was found, `outcome` None where there is no reference to compare it with. The prompt is
    mostly instructions, so it is shown on request only.
    """
    parts: list[RenderableType] = []
    previous = ""
    for segment in segments:
        if segment.discarded and segment.discarded != previous:
            parts.append(Padding.indent(Text(f"discarded {segment.discarded}", "magenta"), DISCARDED_INDENT))
        previous = segment.discarded
        if segment.author is not SegmentKind.PROMPT or show_prompt:
            parts.append(rendered_segment(segment))
    parts.append(answer_line(answer, outcome))
    return Group(*parts)


def rendered_segment(segment: Segment) -> RenderableType:
    """One segment as a terminal shows it."""
    text = visible(segment.text).strip("\n")
    if segment.discarded:
        return Padding.indent(_discarded(segment, text), DISCARDED_INDENT)
    if segment.author is SegmentKind.THOUGHT:
        return Text(text)
    if segment.author is SegmentKind.PROMPT:
        return Text(text, "dim")
    if segment.author is SegmentKind.ACTION:
        return highlighted(text)
    return output_panel(text, segment.status)


def highlighted(text: str, lexer: str = "markdown") -> Text:
    """Visible text in colours: code within its fences, whose language the Markdown lexer takes from the opening one."""
    code = Syntax("", lexer, theme="ansi_dark", background_color="default").highlight(text)
    code.rstrip()
    return code


def output_panel(text: str, status: Status | None) -> RenderableType:
    """Visible text that a program printed, in a frame that says how it ended."""
    failed = has_failed(status)
    return Panel(
        Text(text, "red" if failed else "dim"),
        title=Text(f"output: {_words(status)}" if status else "output", "bold red" if failed else "dim"),
        title_align="left",
        border_style="red" if failed else "dim",
    )


def _discarded(segment: Segment, text: str) -> Text:
    if segment.author is SegmentKind.OBSERVATION:
        return Text.assemble((f"[{_words(segment.status)}] ", "red"), (text, "dim"))
    return Text(text, "dim strike")


def answer_line(answer: str | None, outcome: Outcome | None = None) -> Text:
    """The answer that was found, and its verdict where there is a reference."""
    if answer is None:
        line = Text("no answer found", "bold yellow")
    else:
        line = Text.assemble(("answer: ", "bold"), (visible(answer), "bold reverse"))
    if outcome is not None:
        line.append(f"  {outcome}", _OUTCOME_STYLE[outcome])
    return line


def has_failed(status: Status | None) -> bool:
    """True if a call was made and was no success: one that printed nothing is none either."""
    return status is not None and status not in (Status.OK, Status.NOT_RUN)


def _words(status: Status | None) -> str:
    return "no call" if status is None else status.value.replace("_", " ")
