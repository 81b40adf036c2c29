"""What a model is shown of every way a program can end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.dialect.fences import first_block
from thor_tir.dialect.observation import brief_text, frame, located_text, middle_out, paper_text
from thor_tir.execution import ExecutionResult, Status

TRACE = 'Traceback (most recent call last):\n  File "program", line 1\nZeroDivisionError: division by zero\n\n'


def seen(status: Status, stdout: str = "", stderr: str = "", error: str | None = None, max_chars: int = 512) -> str:
    result = ExecutionResult(status=status, stdout=stdout, stderr=stderr, error=error)
    return brief_text(result, max_chars=max_chars)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.OK, "77"),
        (Status.OK_NO_OUTPUT, "(no output)"),
        (Status.SYNTAX, "ZeroDivisionError: division by zero"),
        (Status.RUNTIME, "ZeroDivisionError: division by zero"),
        (Status.TIMEOUT, "TimeoutError: the program took too long and was stopped"),
        (Status.MEMORY, "MemoryError: the program asked for too much memory"),
        (Status.OUTPUT_LIMIT, "77\nOutputLimitError: the program printed too much and was stopped"),
        (Status.DENIED, "PermissionError: the program tried something that is not allowed"),
    ],
)
def test_every_status_says_how_the_program_ended(status, said):
    assert seen(status, stdout="77\n", stderr=TRACE) == said


def test_every_status_is_covered_by_some_words_of_its_own():
    # OK and OK_NO_OUTPUT aside, six failures and the refusal; SYNTAX and RUNTIME share the traceback's last line
    said = {seen(status, stderr=TRACE) for status in Status if status not in (Status.OK, Status.OK_NO_OUTPUT)}
    assert len(said) == 6
    assert "(no output)" not in said


FAILED = """Traceback (most recent call last):
  File "main.py", line 9, in <module>
    g()
  File "main.py", line 5, in g
    return f(2)
  File "main.py", line 2, in f
    return 1 / (x - 2)
           ~~^~~~~~~~~
ZeroDivisionError: division by zero
"""


def located(stderr: str, status: Status = Status.RUNTIME, error: str | None = None) -> str:
    return located_text(ExecutionResult(status=status, stdout="", stderr=stderr, error=error), max_chars=512)


def test_a_failure_is_traced_to_the_last_two_of_the_programs_own_lines():
    said = "line 5: return f(2)\nline 2: return 1 / (x - 2)\nZeroDivisionError: division by zero"
    assert located(FAILED) == said


def test_of_chained_exceptions_the_last_one_is_told():
    chained = FAILED + "\nDuring handling of the above exception, another exception occurred:\n\n"
    chained += 'Traceback (most recent call last):\n  File "main.py", line 12, in <module>\n    {}[0]\nKeyError: 0\n'
    assert located(chained) == "line 12: {}[0]\nKeyError: 0"


def test_a_syntax_error_is_told_with_its_line():
    stderr = "  File \"main.py\", line 3\n    x = (\n        ^\nSyntaxError: '(' was never closed\n"
    assert located(stderr, Status.SYNTAX) == "line 3: x = (\nSyntaxError: '(' was never closed"


def test_files_that_are_not_the_programs_are_not_told():
    foreign = (
        'Traceback (most recent call last):\n  File "/usr/lib/python3.11/json.py", line 1, in x\n    y\nKeyError: 1\n'
    )
    assert located(foreign) == "KeyError: 1"
    assert located("", error="SIGSEGV") == "SIGSEGV"


def test_in_all_but_failures_the_two_styles_say_the_same():
    for status in Status:
        if status not in (Status.SYNTAX, Status.RUNTIME):
            result = ExecutionResult(status=status, stdout="77\n", stderr=FAILED)
            assert located_text(result, max_chars=64) == brief_text(result, max_chars=64)


@pytest.mark.parametrize(
    ("exit_code", "stdout", "stderr", "said"),
    [
        (0, " 77\n\n", "", "77"),
        (0, "a\nError: 0.01\nbound: 2\n", "", "bound: 2"),  # a success, of which the last line alone is kept
        (0, "", "", "timeout_decorator.TimeoutError: 'Timed Out'"),  # printed nothing
        (0, "", "DeprecationWarning: old\n", "DeprecationWarning: old"),
        (1, "so far\n", FAILED, "ZeroDivisionError: division by zero"),
        (3, "so far\n", "", "timeout_decorator.TimeoutError: 'Timed Out'"),
        (None, "so far\n", "", "timeout_decorator.TimeoutError: 'Timed Out'"),
        (0, "x" * 255, "", "x" * 255),
        (0, "x" * 128 + "y" * 128, "", "x" * 128 + "..." + "y" * 128),  # 256 is cut, and is longer afterwards
        (0, "x" * 200 + "y" * 200, "", "x" * 128 + "..." + "y" * 128),
    ],
)
def test_the_papers_style_is_that_of_its_released_code(exit_code, stdout, stderr, said):
    status = Status.OK if exit_code == 0 else Status.TIMEOUT if exit_code is None else Status.RUNTIME
    result = ExecutionResult(status=status, stdout=stdout, stderr=stderr, exit_code=exit_code)
    assert paper_text(result, max_chars=256) == said


@pytest.mark.parametrize("stdout", ["", "\n", "\n\n\n", " \n"])
def test_a_silent_success_is_reported_as_no_output_and_never_as_a_time_out(stdout):
    status = Status.OK if stdout else Status.OK_NO_OUTPUT
    assert seen(status, stdout=stdout) == "(no output)"


def test_a_success_that_prints_the_word_error_is_shown_whole():
    assert seen(Status.OK, stdout="Error: 0.01\nbound: 2\n") == "Error: 0.01\nbound: 2"


def test_a_failure_without_a_traceback_is_named_by_its_signal_or_code():
    assert seen(Status.RUNTIME, error="SIGSEGV") == "SIGSEGV"
    assert seen(Status.RUNTIME, stderr="\n \n") == "the program failed"


def test_a_long_output_keeps_both_ends_around_a_marker_that_counts_what_is_missing():
    # 100 characters into 16: eight from each end, 84 are left out
    text = "".join(chr(ord("a") + i % 26) for i in range(100))
    assert seen(Status.OK, stdout=text, max_chars=16) == "abcdefgh\n[84 characters left out]\nopqrstuv"


@given(st.text(max_size=60), st.integers(16, 40))
def test_a_cut_text_is_its_ends_and_an_uncut_one_itself(text, max_chars):
    cut = middle_out(text, max_chars)
    if len(text) <= max_chars:
        assert cut == text
    else:
        head, _, tail = cut.partition(f"\n[{len(text) - max_chars} characters left out]\n")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) + len(tail) == max_chars


@given(st.lists(st.sampled_from(["`", "``", "```", "```python", "\n", "x"]), max_size=30).map("".join))
def test_no_output_can_break_out_of_its_frame_or_open_a_program(stdout):
    text = seen(Status.OK, stdout=stdout, max_chars=20)
    assert "```" not in text
    assert first_block(frame(text) + "x\n```\n") is None
