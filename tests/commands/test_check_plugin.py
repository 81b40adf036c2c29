"""A function of one's own is tried as a run would call it."""

import re
from pathlib import Path

import pytest

from thor_tir.app.plugin_check import check_plugin, kind_of_plugin
from thor_tir.cli import main
from thor_tir.errors import UsageError
from thor_tir.tools.loading import load_tools

MINE = """
from random import random
CALLS = []

def brief(problem, trajectory, verdict, *, scale=200):
    return {"brief": 1 / (1 + trajectory.num_model_tokens / scale), "right": verdict.outcome == "correct"}

async def later(problem, trajectory, verdict):
    return 0.5

def forgets(problem, trajectory, verdict):
    trajectory.num_model_tokens

def first_step(problem, trajectory, verdict):
    return len(trajectory.steps[0].thought.text)

def late(problem, trajectory, verdict):
    CALLS.append(1)
    return 1 / (100 - len(CALLS))

def noisy(problem, trajectory, verdict):
    print("hello")
    return random()

def steps(problem, failed, repairs):
    return [repair.succeeded for repair in repairs]

def alone(problem, failed, repairs):
    return 1.0

def rank(attempt, candidates):
    return len(attempt.trajectory.calls), -len(candidates)

def wordy(attempt):
    return "wordy" if len(attempt.trajectory.response_text) > 300 else None

def halved(group):
    return [advantage / 2 for advantage in group.advantages]

def sums(split, count, seed):
    return [{"question": f"{split} {n} + {seed}?", "answer": n + seed} for n in range(9)]

def anything(x, y, z):
    return 1

def doubled(value: int, more: int | None = None) -> int:
    '''Doubles a number.

    Args:
        value: the number
        more: what is added
    '''
    return 2 * value + (more or 0)

def bare(value):
    return value

class Units:
    name = "units"
    description = "Converts units."
    parameters = {"type": "object", "properties": {"value": {"type": "number"}}}

    async def call(self, value):
        return value
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("brief,scale=3", "reward"),
        ("later", "reward"),
        ("steps", "step-reward"),
        ("rank", "selector"),
        ("wordy", "filter"),
        ("halved", "advantage"),
        ("sums", "problems"),
    ],
)
def test_the_kind_is_found_by_the_arguments_and_a_good_function_keeps_its_contract(mine, function, kind) -> None:
    assert kind_of_plugin(f"{mine}:{function}") == kind
    tried = check_plugin(f"{mine}:{function}", kind)
    assert [each.result for each in tried if not each.is_fine] == []
    assert not any("different results" in remark or "prints" in remark for each in tried for remark in each.remarks)


def test_a_packaged_reward_keeps_the_contract_too() -> None:
    for name in ("exact", "format", "overlong,limit=100,cache=50"):
        assert all(each.is_fine for each in check_plugin(name, "reward"))


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("forgets", "reward", "returned None for every sample"),
        ("first_step", "reward", r"IndexError.*line 15"),
        ("alone", "step-reward", "it returns a list with one entry for each"),
        ("wordy", "selector", "2 arguments"),
        ("anything", "filter", "1 arguments"),
    ],
)
def test_what_breaks_a_contract_is_said(mine, function, kind, message, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check-plugin", f"{mine}:{function}", "--kind", kind])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert re.search(message, " ".join((captured.out + captured.err).split()))


def test_more_calls_find_what_fails_late(mine) -> None:
    assert all(each.is_fine for each in check_plugin(f"{mine}:late", "reward"))
    tried = check_plugin(f"{mine}:late", "reward", calls=20)
    assert sum("ZeroDivisionError" in each.result for each in tried) == 1


def test_noise_is_remarked_and_no_fault(mine) -> None:
    first, *_ = check_plugin(f"{mine}:noisy", "reward")
    assert first.is_fine
    assert [remark.partition(":")[0] for remark in first.remarks[:2]] == [
        "the same call gave different results",
        "it prints ('hello')",
    ]


def test_arguments_that_tell_no_kind_ask_for_one(mine) -> None:
    with pytest.raises(UsageError, match="do not tell its kind: say --kind"):
        kind_of_plugin(f"{mine}:anything")
    with pytest.raises(UsageError, match="is offered by no installed package"):
        kind_of_plugin("brilliance")


PAGE = Path(__file__).parents[2] / "docs" / "own_functions.md"


def test_every_example_of_the_page_keeps_its_contract(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "mine.py").write_text("\n\n".join(blocks))
    names = re.findall(r"^def (\w+)", "\n".join(blocks), re.MULTILINE)
    kinds = {name: kind_of_plugin(f"{tmp_path / 'mine.py'}:{name}") for name in names}
    assert sorted(kinds.values()) == ["advantage", "filter", "problems", "reward", "selector", "step-reward"]
    for name, kind in kinds.items():
        tried = check_plugin(f"{tmp_path / 'mine.py'}:{name}", kind)
        assert [each.result for each in tried if not each.is_fine] == []


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("Units", '{"value": 2}', "2"),
        ("Units", '{"value": "two"}', "failed call, BadArguments: units: "),
        ("doubled", '{"value": 2, "more": null}', "4"),
    ],
)
def test_a_tool_is_called_with_arguments_and_a_plain_function_is_one(mine, tool, arguments, said) -> None:
    loaded, called = check_plugin(f"{mine}:{tool}", "tool", arguments=arguments)
    assert loaded.is_fine
    assert called.is_fine
    assert called.result.startswith(said)


def test_a_tool_that_cannot_be_called_says_so(mine) -> None:
    with pytest.raises(UsageError, match=r"bare as a tool: .* no docstring"):
        load_tools([f"{mine}:bare"])
    with pytest.raises(UsageError, match=r"must be a JSON object such as .* found 'value=2'"):
        check_plugin(f"{mine}:Units", "tool", arguments="value=2")
