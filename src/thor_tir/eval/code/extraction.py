"""From a model's response to the program that is tested."""

import ast
import re

from thor_tir.problems.code_sources import CodeTask

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint", "\nassert", "\n```", "\n@")
"""Where the continuation of a function by a base model ends (arXiv 2107.03374, section 2.1, and what models add)."""
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = frozenset({"", "python", "py", "python3"})


def program_from_response(task: CodeTask, response: str) -> str:
    """The last fenced Python block that defines the entry point, else the last block, else the response itself.

    Only what follows `</think>` counts where there is one. A block that continues the prompt's function is put behind
    the prompt, and a block that defines the function keeps the imports of the prompt.
    """
    answer = response.rpartition("</think>")[2]
    blocks = [body for language, body in _FENCE.findall(answer) if language.lower() in _PYTHON]
    defining = [block for block in blocks if defines(block, task.entry_point)]
    found: str = (defining or blocks or [answer])[-1]
    if not task.is_continued:
        return found
    return f"{_imports(task.prompt)}\n{found}" if defines(found, task.entry_point) else task.prompt + found


def program_from_completion(task: CodeTask, completion: str) -> str:
    """What a base model wrote right behind the prompt, up to the first stop sequence.

    For a prompt in words the completion is the program.
    """
    return task.prompt + cut_at_stops(completion) if task.is_continued else completion


def cut_at_stops(completion: str) -> str:
    """The completion up to where the function's body has ended."""
    ends = [at for stop in STOPS if (at := completion.find(stop)) >= 0]
    return completion[: min(ends)] if ends else completion


def defines(program: str, entry_point: str) -> bool:
    """Whether the text defines the function, or the class of the method; any text does for a task without a name."""
    name = entry_point.partition(".")[0]
    return (
        not name or re.search(rf"^(?:async\s+def|def|class)\s+{name}\b|^{name}\s*=", program, re.MULTILINE) is not None
    )


def _imports(prompt: str) -> str:
    """The imports and helpers before the function that a prompt asks to complete."""
    try:
        body = ast.parse(prompt).body
    except SyntaxError:
        return ""
    return "\n".join(ast.unparse(node) for node in body[:-1])
