"""From a model's response to the program that is tested."""

import ast
import re

from thor_tir.grading.extract import after_thoughts
from thor_tir.problems.code_tasks import CodeTask

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif __name__", "\nprint", "\nassert", "\n```", "\n@")
"""Where the continuation of a function by a base model ends (arXiv 2107.03374, section 2.1, and what models add)."""
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = frozenset({"", "python", "py", "python3"})


def program_from_response(task: CodeTask, response: str) -> str:
    """The program of `find_program`, or the response itself where there is none."""
    return find_program(task, response) or response


def find_program(task: CodeTask, response: str) -> str | None:
    """The last fenced Python block that defines the entry point, else the last block; without blocks, bare code.

    Only what follows `</think>` counts where there is one. A block that is indented, the body of the prompt's function,
    is put behind the prompt; any other keeps the imports of the prompt. None for mere words.
    """
    answer = after_thoughts(response)
    blocks = [body for language, body in _FENCE.findall(answer) if language.lower() in _PYTHON]
    defining = [block for block in blocks if defines(block, task.entry_point)]
    bare = [answer] if _is_code(answer) or (task.is_continued and _is_code(task.prompt + answer)) else []
    chosen: list[str] = defining or blocks or bare
    if not chosen or not task.is_continued:
        return chosen[-1] if chosen else None
    found = chosen[-1]
    is_body = not defines(found, task.entry_point) and found.lstrip("\n")[:1].isspace()
    return task.prompt + found if is_body else f"{_imports(task.prompt)}\n{found}"


def _is_code(text: str) -> bool:
    """True if Python can read it, and it ends as no plain text can: other than by a name or a value."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and (not isinstance(body[-1], ast.Expr) or isinstance(body[-1].value, ast.Call))


def program_from_completion(task: CodeTask, completion: str) -> str:
    """The text that a base model wrote right behind the prompt, up to the first stop sequence.

    For a prompt without code the completion is the program.
    """
    return task.prompt + cut_at_stops(completion) if task.is_continued else completion


def cut_at_stops(completion: str) -> str:
    """The completion up to where the function's body has ended."""
    ends = [at for stop in STOPS if (at := completion.find(stop)) >= 0]
    return completion[: min(ends)] if ends else completion


def defines(program: str, entry_point: str) -> bool:
    """True if the text defines the function, or the class of the method; any text does for a task without a name."""
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
