"""Find the answer in what a model wrote. It does not judge it, and it must never be shown a tool's output."""

import re

_MARK = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
"""An opening box, an escaped character (so `\\{` is no brace), or a brace."""

_THOUGHT_ENDS = "</think>"


def extract_answer(text: str) -> str | None:
    r"""Content of the last `\boxed{...}` or `\fbox{...}` whose braces balance; None where there is none or it is empty.

    Of nested boxes the innermost of the last one counts. Where the model closed a `<think>` block, only what follows it
    is an answer: inside it candidates are still weighed. One linear pass, whatever the nesting.
    """
    text = text.rpartition(_THOUGHT_ENDS)[2]
    last_start = last_end = -1
    opened: list[int] = []
    for mark in _MARK.finditer(text):
        if mark[0] == "}":
            start = opened.pop() if opened else -1
            if start > last_start:
                last_start, last_end = start, mark.start()
        elif mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark.end() if len(mark[0]) > 1 else -1)
    return text[last_start:last_end].strip() or None if last_start >= 0 else None
