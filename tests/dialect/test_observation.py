"""What a model is shown of every way a program can end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.dialect.fences import FenceParser
from thor_tir.dialect.observation import frame, middle_out, observed_text
from thor_tir.execution import ExecutionResult, Status

TRACE = 'Traceback (most recent call last):\n  File "program", line 1\nZeroDivisionError: division by zero\n\n'


def seen(status: Status, stdout: str = "", stderr: str = "", error: str | None = None, max_chars: int = 512) -> str:
    result = ExecutionResult(status=status, stdout=stdout, stderr=stderr, error=error)
    return observed_text(result, max_chars=max_chars)


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
    # OK and OK_NO_OUTPUT aside, six failures; SYNTAX and RUNTIME share the traceback's last line
    said = {seen(status, stderr=TRACE) for status in Status if status not in (Status.OK, Status.OK_NO_OUTPUT)}
    assert len(said) == 5
    assert "(no output)" not in said


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
    parser = FenceParser()
    parser.feed(frame(text) + "x\n")
    assert parser.block is None
    assert not parser.is_open
