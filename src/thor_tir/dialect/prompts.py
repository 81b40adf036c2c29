"""The prompts, as chat messages. Instructions are the system message; they move to the user's turn where the chat
template has no system role or leaves it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thor_tir.pretrained import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStyle:
    """Instructions and question template of a prompt."""

    system: str
    """Rules, for models that read a system message."""
    user: str
    """With `{text}` where the question (or the step to be rewritten) stands."""
    runs_programs: bool = True
    """True where a fenced program ends the model's turn and is run; False where it is text like any other, so that an
    answer without tools goes on after the programs that many models write unasked."""


NO_TOOLS = PromptStyle(
    system="You are a careful mathematician.",
    user="{text}\nReason step by step and put the final answer in \\boxed{{}}.",
    runs_programs=False,
)
"""Reasoning without tools: the actor of TIRGen and the tool-free baseline (paper, figure 8)."""

_MATHEMATICIAN = "You are a careful mathematician who reasons in words and lets Python do the exact computations."
_FENCED = "Write a program between a line ```python and a line ```; its output follows in an ```output block."
_STANDS_ALONE = "Every program stands alone: it imports what it needs, knows no earlier program, and prints its result."
_GOES_ON = (
    "Every program goes on from the earlier ones that ran: their names and imports are there. It prints its result."
)
_AS_MANY = "Use as many programs as the problem needs, and none for what is obvious."

TOOLS = PromptStyle(
    system="\n".join((_MATHEMATICIAN, _FENCED, _STANDS_ALONE, _AS_MANY)),
    user="{text}\nReason step by step, let Python compute, and put the final answer in \\boxed{{}}.",
)
"""Tool-integrated reasoning: cold start, RL, inference (paper, figures 9 and 10)."""

CODE = PromptStyle(
    system="You are a careful programmer.",
    user="{text}\nThink first. Then write the whole program once, between a line ```python and a line ```.",
    runs_programs=False,
)
"""A programming task without tools."""

_PROGRAMMER = "You are a careful programmer who tries things out."
_FENCED_TRIAL = (
    "A program between a line ```python and a line ``` is run at once, without input; its output follows in an"
    " ```output block."
)
_TRIAL_ALONE = "Every program stands alone: it imports what it needs and knows no earlier program."

CODE_TOOLS = PromptStyle(
    system="\n".join((_PROGRAMMER, _FENCED_TRIAL, _TRIAL_ALONE)),
    user=(
        "{text}\nThink, try things out where it helps, and end with the whole program between a line ```python and a"
        " line ```: the last one that you write is your answer."
    ),
)
"""A programming task with tools."""

_EXPERT = "You are an expert in mathematics and programming. You are given one isolated piece of somebody's reasoning."
_NONE = "If it holds no computation that {tools} can do exactly, answer with the single word NONE."
_KEEP = (
    "Otherwise write it again: keep the words that say what is computed and why, unchanged; leave out the computed"
    " result; then"
)
_PROGRAM = "write, between a line ```python and a line ```, a short program that stands alone and prints that result."
_CALL = "call the one tool that gives that result."
_NO_MORE = "Do not predict the output, do not solve anything beyond this piece, add nothing of your own."

CRITIC = PromptStyle(
    system="\n".join((_EXPERT, _NONE.format(tools="Python"), f"{_KEEP} {_PROGRAM}", _NO_MORE)),
    user="{text}",
)
"""The critic of TIRGen, which sees an isolated step and nothing else (paper, figure 7)."""


_CALLING = "Call tools as often as the problem needs, and not for what is obvious."
_GOING_ON: Mapping[str, tuple[str, ...]] = {
    TOOLS.system: (_MATHEMATICIAN, _FENCED, _GOES_ON, _AS_MANY),
    CODE_TOOLS.system: (_PROGRAMMER, _FENCED_TRIAL, _GOES_ON),
}
"""Rules where fenced programs go on from earlier ones, by the usual ones."""
_BY_CALLS: Mapping[str, tuple[str, ...]] = {
    TOOLS.system: (_MATHEMATICIAN, _CALLING),
    CODE_TOOLS.system: (_PROGRAMMER, _CALLING),
    CRITIC.system: (_EXPERT, _NONE.format(tools="the tools"), f"{_KEEP} {_CALL}", _NO_MORE),
}
"""Rules where tools are called, which are declared beside them."""


def in_dialect(style: PromptStyle, *, is_fenced: bool, keeps_state: bool) -> PromptStyle:
    """Packaged rules for a dialect and for programs that know each other or not; one's own stay as they are."""
    rules = _BY_CALLS if not is_fenced else _GOING_ON if keeps_state else {}
    return replace(style, system="\n".join(rules[style.system])) if style.system in rules else style


def messages(style: PromptStyle, text: str, system: str = "") -> list[dict[str, str]]:
    """The chat turns of one request; `system` is what its source says before the question, and follows the rules."""
    rules = "\n\n".join(filter(None, (style.system, system)))
    return [{"role": "system", "content": rules}, {"role": "user", "content": style.user.format(text=text)}]


def conversation_messages(style: PromptStyle, turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """The turns of a conversation, each question put as the style has it, and its rules before the user's own."""
    rules = [style.system, *(turn["content"] for turn in turns if turn["role"] == "system")]
    said: list[ChatTurn] = [{"role": "system", "content": "\n\n".join(rules)}]
    for turn in turns:
        if turn["role"] == "user":
            said.append({"role": "user", "content": style.user.format(text=turn["content"])})
        elif turn["role"] == "assistant":
            said.append(turn)
    return said
