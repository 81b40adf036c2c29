"""What the model is shown of a program's end: short, truthful, and unable to break out of its frame."""

from thor_tir.execution import ExecutionResult, Status

_SAID: dict[Status, str] = {
    Status.OK_NO_OUTPUT: "(no output)",
    Status.TIMEOUT: "TimeoutError: the program took too long and was stopped",
    Status.MEMORY: "MemoryError: the program asked for too much memory",
    Status.DENIED: "PermissionError: the program tried something that is not allowed",
}


def observed_text(result: ExecutionResult, *, max_chars: int) -> str:
    """stdout of a success, otherwise the last line that says what went wrong; at most about `max_chars` characters."""
    if result.status in _SAID:
        text = _SAID[result.status]
    elif result.status in (Status.SYNTAX, Status.RUNTIME):
        text = _last_line(result.stderr) or result.error or "the program failed"
    else:
        # Blank output shows nothing either, and an empty frame would not say so.
        text = result.stdout.strip("\n") if result.stdout.strip() else _SAID[Status.OK_NO_OUTPUT]
        if result.status is Status.OUTPUT_LIMIT:
            text += "\nOutputLimitError: the program printed too much and was stopped"
    return middle_out(text, max_chars).replace("```", "'''")


def frame(text: str) -> str:
    """The observation as it stands in the context, between fences of its own."""
    return f"```output\n{text}\n```\n"


def middle_out(text: str, max_chars: int) -> str:
    """Both ends of a long text, with a marker that says how much is missing between them."""
    if len(text) <= max_chars:
        return text
    head = max_chars // 2
    tail = max_chars - head
    return f"{text[:head]}\n[{len(text) - max_chars} characters left out]\n{text[-tail:]}"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
