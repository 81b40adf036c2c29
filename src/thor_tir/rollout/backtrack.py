"""Cut a trajectory inside the thought before a failed action: what step-level RL and self-correction share.

The cut never leaves r_t. Earlier thoughts, programs and observations stay whole, token for token, however short the
failing thought is. A scope says how much of r_t is cut (paper, Table 5).
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from thor_tir.trajectory import Decode, Prefix, Span, Step, Trajectory

Cut = Literal["action", "suffix", "replan", "by-error"]
"""Part of a failed step that is written again beside its call: nothing, the last L_suf tokens of its thought, all of
its thought, or one of these by the kind of failure."""
OTHER = "other"
"""Key of `BY_ERROR` for all failures that it does not name."""
BY_ERROR: Mapping[str, Cut] = MappingProxyType(
    {
        "syntax": "action",
        "NameError": "action",
        "ImportError": "action",
        "ModuleNotFoundError": "action",
        "AttributeError": "action",
        "UnknownTool": "action",
        "BadArguments": "action",
        "ok_no_output": "action",
        "timeout": "replan",
        "memory": "replan",
        "output_limit": "replan",
        OTHER: "suffix",
    }
)
"""Cut by the exception's type, else by the status. Slips of the pen keep their thought; a program that asks for too
much time or memory follows a wrong plan."""


def by_error(failed: Step, suffix_tokens: int, table: Mapping[str, Cut] = BY_ERROR) -> int:
    """The length that the failed call's kind has in the table."""
    assert failed.observation is not None
    result = failed.observation.result
    named = (key for key in (result.error or "", result.status.value) if key in table)
    cut = table[next(named, OTHER)]
    return CUTS[cut](failed, suffix_tokens)


CUTS: Mapping[Cut, Callable[[Step, int], int]] = MappingProxyType(
    {
        "action": lambda failed, suffix_tokens: 0,
        "suffix": lambda failed, suffix_tokens: suffix_tokens,
        "replan": lambda failed, suffix_tokens: len(failed.thought.span),
        "by-error": by_error,
    }
)
"""Function from a failed step and L_suf to the tokens of its thought that are cut away."""


def kept_thought(failed: Step, *, suffix_tokens: int, decode: Decode | None = None) -> Span:
    """r_t_pre: the thought without its last `suffix_tokens` tokens, or nothing of a thought that is shorter.

    With `decode` the cut moves forward to the next place that lies within no word, number or character.
    """
    thought = failed.thought.span
    end = max(0, len(thought) - suffix_tokens)
    if decode is not None and end < len(thought):
        text = decode(thought.token_ids)
        while end and _is_inside_word(decode(thought.token_ids[:end]), text):
            end -= 1
    return thought[:end]


def backtrack(
    before: Sequence[Span],
    failed: Step,
    *,
    suffix_tokens: int,
    parent: str,
    call: int,
    decode: Decode | None = None,
) -> Prefix:
    """pref(tau, t) = everything before step t, then r_t_pre (paper, section 2.3.2).

    `before` holds the spans of prompt and earlier steps. The failed action and its observation are left out.
    """
    kept = kept_thought(failed, suffix_tokens=suffix_tokens, decode=decode)
    return Prefix(spans=(*before, kept), parent=parent, call=call)


def _is_inside_word(kept: str, text: str) -> bool:
    """True where the end of `kept` lies within a word, a number, a LaTeX command or a character of `text`.

    Scripts that set no blanks between words have no such places: any cut may fall there.
    """
    if not text.startswith(kept):
        return True  # half a character
    cut = text[len(kept) :]
    last, first = kept[-1:], cut[:1]
    if _is_of_word(first) and (_is_of_word(last) or last == "\\"):
        return True
    # 3|.5, 3.|5 and 1,|000
    in_number = last in ".," and kept[-2:-1].isdecimal() and first.isdecimal()
    return in_number or (first in ".," and last.isdecimal() and cut[1:2].isdecimal())


def _is_of_word(character: str) -> bool:
    return bool(character) and unicodedata.category(character) in ("Lu", "Ll", "Lt", "Nd")


def failed_prefix(trajectory: Trajectory, call: int, *, suffix_tokens: int) -> Prefix:
    """The prefix of step number `call` of a finished trajectory, whose call must have failed."""
    failed = trajectory.steps[call]
    if failed.succeeds("printed") or not failed.is_call:
        raise ValueError(f"step {call} of trajectory {trajectory.id} has no failed call to go back from")
    before = [trajectory.prompt, *(span for step in trajectory.steps[:call] for span in step.spans)]
    return backtrack(before, failed, suffix_tokens=suffix_tokens, parent=trajectory.id, call=call)
