"""Functions of one's own: how options spell them, and what is said of those that cannot be had."""

from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.hooks import Spelling, load_hook, spelling_of


@pytest.mark.parametrize(
    ("spec", "name", "weight", "parameters"),
    [
        ("exact", "exact", None, {}),
        ("calls=-0.1", "calls", -0.1, {}),
        ("overlong,limit=400,cache=1e2", "overlong", None, {"limit": 400, "cache": 100.0}),
        ("mine.py:f=2,name=plain text,strict=true", "mine.py:f", 2.0, {"name": "plain text", "strict": True}),
        ("a=b/c,d.py:f=1", "a=b/c,d.py:f", 1.0, {}),
        ("package.module:f,x=1", "package.module:f", None, {"x": 1}),
    ],
)
def test_a_spelling_has_a_name_a_weight_and_parameters(spec, name, weight, parameters):
    assert spelling_of(spec) == Spelling(name=name, weight=weight, parameters=parameters)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exact=much", "the weight behind = is a number, found 'much'"),
        ("overlong,400", "parameters as name=value, found '400'"),
        ("overlong,", "parameters as name=value, found ''"),
        ("overlong,a=1,a=2", "the parameter a is given twice"),
        ("", "names no function"),
    ],
)
def test_a_spelling_that_cannot_be_read_is_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        spelling_of(spec)


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path / 'mine.py'}:f"

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", r"SyntaxError: .*mine.py, line 2\)"),
        ("import sys\nsys.exit(3)\n", r"raised SystemExit: 3 \(.*mine.py, line 2\)"),
        ("1 / 0\n", r"ZeroDivisionError.*mine.py, line 1\)"),
        ("def g(): ...\n", "has no 'f'; its functions are: g"),
        ("f = 3\n", "is no function but int"),
        ("def f(problem): ...\n", r"3 arguments \(problem, trajectory, verdict\) and cannot take them"),
        ("def f(a, b, c, *, needed): ...\n", "missing a required argument: 'needed'"),
        ("async def f(a, b, c):\n    yield 1\n", "is a generator .* returns a number"),
        ("def f(a, b, c):\n    yield 1\n", "is a generator"),
    ],
)
def test_what_cannot_be_a_reward_is_said_with_its_place(file, text, message):
    with pytest.raises(UsageError, match=message):
        load_hook("reward", file(text))


@pytest.mark.parametrize(("given", "message"), [({"c": 1}, "no parameter that a user sets"), ({"z": 1}, "'z'")])
def test_parameters_that_a_function_does_not_take_are_refused(file, given, message):
    with pytest.raises(UsageError, match=message):
        load_hook("reward", file("def f(a, b, c): ...\n"), parameters={"verdict": 1} if "c" in given else given)


def test_a_file_may_import_its_neighbour_prints_to_standard_error_and_runs_once(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "neighbour_of_mine.py").write_text("VALUE = 7\n")
    name = file("import neighbour_of_mine\nprint('hello')\ndef f(a, b, c):\n    return neighbour_of_mine.VALUE\n")
    assert load_hook("reward", name) is load_hook("reward", name)
    assert load_hook("reward", name)(1, 2, 3) == 7
    assert capsys.readouterr() == ("", "hello\n")
