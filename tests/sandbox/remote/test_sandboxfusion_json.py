"""The wire format: what is said about a program arrives unchanged, and nothing else is taken for an answer."""

import signal
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hostile_server import reply
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits, Snippet
from thor_tir.sandbox.remote import sandboxfusion_json as fusion

LIMITS = Limits(timeout_s=2.0, memory_bytes=256 * 2**20, output_bytes=1000)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
"""Lone surrogates and NUL included."""
SECONDS = st.floats(0, 1e6)


@st.composite
def results(draw: st.DrawFn) -> ExecutionResult:
    """Any result that a sandbox of ours can give."""
    status = draw(st.sampled_from(list(Status)))
    codes = st.just(0) if status in (Status.OK, Status.OK_NO_OUTPUT) else st.none() | st.integers(1, 255)
    return ExecutionResult(
        status=status,
        stdout=draw(ANY_TEXT),
        stderr=draw(ANY_TEXT),
        error=draw(st.none() | st.sampled_from(["NameError", "SIGSEGV", "exit code 3"])),
        exit_code=draw(codes),
        seconds=draw(SECONDS),
        level=draw(st.sampled_from(["full", "landlock", ""])),
        is_truncated=draw(st.booleans()),
        cpu_s=draw(SECONDS),
        peak_bytes=draw(st.integers(0, 2**40)),
        queue_s=draw(SECONDS),
        runs=draw(st.integers(1, 2)),
    )


@given(results())
def test_a_result_is_the_same_after_the_wire(result: ExecutionResult) -> None:
    wire = fusion.encode(fusion.reply_to_json(result))
    assert fusion.reply_from_json(fusion.decode(wire), LIMITS) == result


@given(results())
def test_a_client_that_knows_only_the_official_fields_sees_the_same_success_or_failure(result: ExecutionResult) -> None:
    assume(result.exit_code != 128 + signal.SIGXCPU)  # by which the format says that processor time ran out
    told = fusion.reply_to_json(result)
    official = {name: told[name] for name in told if name not in ("thor", "level")}
    seen = fusion.reply_from_json(official, replace(LIMITS, output_bytes=2**20))
    assert seen.ran == result.ran
    assert (seen.status is Status.TIMEOUT) == (result.status is Status.TIMEOUT)
    assert (seen.stdout, seen.stderr, seen.seconds) == (result.stdout, result.stderr, result.seconds)


@given(ANY_TEXT, ANY_TEXT, st.integers(0, 2**32 - 1), st.floats(0.01, 60.0), st.integers(1, 4096))
def test_a_request_is_the_same_after_the_wire(code: str, stdin: str, seed: int, timeout_s: float, mib: int) -> None:
    limits = Limits(timeout_s=timeout_s, memory_bytes=mib * 2**20, output_bytes=5000)
    wire = fusion.encode(fusion.request_to_json(code, limits, stdin=stdin, seed=seed))
    snippet = fusion.request_from_json(fusion.decode(wire), fusion.RequestRules())
    assert snippet == Snippet(code=code, limits=limits, stdin=stdin, seed=seed)


def test_the_official_clients_request_gets_the_defaults_and_wishes_above_the_maximum_are_lowered() -> None:
    rules = fusion.RequestRules(default=LIMITS, most=Limits(timeout_s=4.0, memory_bytes=2**30, output_bytes=2000))
    official = {"code": "1", "language": "python", "run_timeout": 1e300, "compile_timeout": 10, "stdin": None}
    official |= {"files": {}, "fetch_files": []}
    snippet = fusion.request_from_json(official, rules)
    assert snippet.limits == Limits(timeout_s=4.0, memory_bytes=256 * 2**20, output_bytes=1000)
    greedy = fusion.request_from_json(official | {"memory_limit_MB": 1e300, "output_bytes": 9999}, rules)
    assert greedy.limits == Limits(timeout_s=4.0, memory_bytes=2**30, output_bytes=2000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"language": "cpp"}, "language must be 'python'"),
        ({"code": None}, "code must be a string"),
        ({"code": ["print(1)"]}, "code must be a string"),
        ({"stdin": 3}, "stdin must be a string or null"),
        ({"files": {"a.txt": "aGk="}}, "files must be empty"),
        ({"fetch_files": ["out.png"]}, "fetch_files must be empty"),
        ({"run_timeout": 0}, "run_timeout must be above 0"),
        ({"run_timeout": True}, "run_timeout must be a number"),
        ({"run_timeout": None}, "run_timeout must be a number"),
        ({"memory_limit_MB": "lots"}, "memory_limit_MB must be a number"),
        ({"output_bytes": 0}, "output_bytes must be at least 1"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_a_malformed_request_is_refused_with_the_fields_name(changes: dict[str, Any], words: str) -> None:
    body = {"code": "print(1)", "language": "python"} | changes
    with pytest.raises(fusion.MalformedRequest, match=words):
        fusion.request_from_json(body, fusion.RequestRules())


TRACEBACK = 'Traceback (most recent call last):\n  File "/tmp/x.py", line 1, in <module>\n    f()\n'
BAD_SYNTAX = "  File \"/tmp/x.py\", line 1\n    f(\n     ^\nSyntaxError: '(' was never closed\n"


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        (reply(), Status.OK, None),
        (reply(stdout=""), Status.OK_NO_OUTPUT, None),
        (reply(stdout=None, stderr=None, execution_time=None), Status.OK_NO_OUTPUT, None),
        (reply(return_code=None), Status.OK, None),
        (reply("Failed", status="TimeLimitExceeded", return_code=None), Status.TIMEOUT, None),
        (reply("Failed", return_code=1, stderr=TRACEBACK + "NameError: name 'f'\n"), Status.RUNTIME, "NameError"),
        (reply("Failed", return_code=1, stderr=TRACEBACK + "a.b.OddError\n"), Status.RUNTIME, "OddError"),
        (reply("Failed", return_code=1, stderr=TRACEBACK + "E: two\nlines: here\n"), Status.RUNTIME, "E"),
        (reply("Failed", return_code=1, stderr=TRACEBACK + "MemoryError\n"), Status.MEMORY, "MemoryError"),
        (reply("Failed", return_code=1, stderr=BAD_SYNTAX), Status.SYNTAX, "SyntaxError"),
        # Raised by the running program, for instance in eval: it did compile.
        (reply("Failed", return_code=1, stderr=TRACEBACK + BAD_SYNTAX), Status.RUNTIME, "SyntaxError"),
        (reply("Failed", return_code=3), Status.RUNTIME, "exit code 3"),
        (reply("Failed", return_code=1, stderr="MemoryError\n"), Status.RUNTIME, "exit code 1"),  # printed, not raised
        (reply("Failed", return_code=-9), Status.MEMORY, "SIGKILL"),
        (reply("Failed", return_code=137), Status.MEMORY, "SIGKILL"),  # 128 + 9, from a shell
        (reply("Failed", return_code=-int(signal.SIGSEGV)), Status.RUNTIME, "SIGSEGV"),
        (reply("Failed", return_code=-int(signal.SIGXCPU)), Status.TIMEOUT, None),
        (reply(stdout="x" * 1001), Status.OUTPUT_LIMIT, None),
        (reply("Failed", return_code=1, stderr="é" * 501), Status.OUTPUT_LIMIT, None),  # two bytes each: 1002
    ],
)
def test_a_foreign_reply_becomes_the_programs_status(told: dict[str, Any], status: Status, error: str | None) -> None:
    result = fusion.reply_from_json(told, LIMITS)
    assert (result.status, result.error) == (status, error)


def test_output_over_the_limit_is_cut_between_characters() -> None:
    result = fusion.reply_from_json(reply(stdout="xé" * 400), LIMITS)  # three bytes a pair; 1000 is one byte into "x"
    assert result.stdout == "xé" * 333 + "x"
    assert result.is_truncated


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "pong",
        {},
        {"status": "Success"},
        reply("SandboxError"),
        reply("success"),
        reply(["Success"]),  # type: ignore[arg-type]
        reply() | {"run_result": None},
        reply() | {"run_result": "Finished"},
        reply("Failed", status="Error"),
        reply(stdout=42),
        reply(stderr=["no"]),
        reply(return_code="0"),
        reply(return_code=True),
        reply(return_code=0.0),
        reply(execution_time="fast"),
        reply(execution_time=-1),
        reply(return_code=1),  # a success with a return code
        reply("Failed"),  # a failure without one
        reply(status="TimeLimitExceeded"),
        reply() | {"level": 7},
        reply() | {"thor": []},
        reply() | {"thor": {"status": "fine"}},
        reply() | {"thor": {"status": ["ok"]}},
        reply() | {"thor": {"status": "timeout"}},  # contradicts the official fields
        reply() | {"thor": {"status": "ok", "runs": "2"}},
        reply() | {"thor": {"status": "ok", "error": 1}},
    ],
)
def test_a_reply_that_is_no_answer_is_never_taken_for_one(told: object) -> None:
    with pytest.raises(fusion.BadReply):
        fusion.reply_from_json(told, LIMITS)


@pytest.mark.parametrize("text", [b"", b"{", b"[NaN]", b"[" * 100_000, b"\xff\xfe\xfa", b"1" * 10_000])
def test_text_that_is_not_plain_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the claim
        fusion.decode(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "run_result", "thor", "stdout"]), inner)
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_no_reply_whatsoever_raises_anything_but_bad_reply(value: object, other: object, third: object) -> None:
    told = reply(stdout=value, return_code=other) | {"thor": third}
    try:
        result = fusion.reply_from_json(told, LIMITS)
    except fusion.BadReply:
        return
    assert isinstance(result, ExecutionResult)
