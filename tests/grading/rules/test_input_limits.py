import pytest

from thor_tir.grading.rules.canonical import is_affordable
from thor_tir.grading.workers.reasoning_gym import calls_only_maths


@pytest.mark.parametrize(
    "answer",
    ["64*x**2*(56*x**3 - 14*x + 35)", "(1)", "sqrt(2)/2", "2 days, 03:10", "['A', 'B']", "[[1, 2], [3]]", "-(-3)"],
)
def test_answers_of_ordinary_form_pass(answer):
    assert calls_only_maths(answer)
    assert is_affordable(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "__import__('os').getcwd()",
        "exec(chr(49))",
        "exec (1)",
        "(exec)(1)",
        "[exec][0](1)",
        "exec\\\n(1)",
        "(exec # +\n(1))",
        "ｅｘｅｃ(1)",
        "S('1')",
        "sqrt('ex' + 'it()')",
        r"sqrt('exit\x28\x29')",
        "().__class__.mro()",
    ],
)
def test_whatever_python_would_call_is_refused(answer):
    assert not calls_only_maths(answer)


@pytest.mark.parametrize("answer", ["7" * 100_000, "(" * 5000 + "2" + ")" * 5000, "1" + "0" * 256, "{" * 65])
def test_what_no_parser_should_be_given_is_refused(answer):
    assert not is_affordable(answer)
