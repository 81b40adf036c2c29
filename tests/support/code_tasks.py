"""Tasks of programming for tests that read replies to them; nothing runs."""

from thor_tir.problems.code_tasks import AssertTests, CodeTask, ExampleTests


def task_of(prompt: str, entry: str = "", *, benchmark: str = "humaneval", printed: str = "") -> CodeTask:
    """A task to write the function `entry`, or, without one, a program that reads 1 and prints `printed`."""
    tests = AssertTests(text="", checks=True) if entry else ExampleTests(pairs=(("1\n", printed),), is_stdin=True)
    return CodeTask(
        id="x",
        benchmark=benchmark,
        prompt=prompt,
        entry_point=entry,
        reference="",
        tests=tests,
        timeout_s=1,
        fingerprint="",
    )
