"""What the paper's tables would take on its own models: commands that mean what they say, and their hours."""

from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir import commands
from thor_tir.reproduce.cost import PAPER, Model, costs
from thor_tir.reproduce.declared import Job, Layout, Stage, Subject
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import EXPERIMENTS
from thor_tir.reproduce.tables import PAPER as TABLES
from thor_tir.rl.meaning import check_meaning


def test_hours_on_a_gpu_are_those_that_memory_allows() -> None:
    # 256 sequences, weights of 2e9 bytes and 256 * 500 * 1e4 = 1.28e9 of keys and values a step:
    # 3.28e9 / 3.35e12 = 0.979 ms a step of 256 tokens, so 1e9 tokens take 3,824 s.
    assert Model(parameters=1e9, cache=1e4).decode_hours(1e9, 1000) == pytest.approx(3824 / 3600, rel=1e-3)


def cost_of(command: str, *words: str) -> float:
    """Hours of a command on the first of the paper's models."""
    stage = Stage(name="x", command=command, words=words)
    job = Job(stage=stage, seed=0, folder=Path("x"), words=words)
    (hours,) = costs(PAPER[0], [(job, commands.parsed(command, ["--preset", "paper", *words]))])
    return hours


def test_hours_are_those_of_the_commands_own_options() -> None:
    six = cost_of("eval", "--problems", "six", "--samples", "1")
    assert cost_of("eval", "--problems", "six", "--samples", "8") == pytest.approx(8 * six)
    # 1,547 problems in all, of which AIME's two sets have 30 each and the others more than 30
    assert cost_of("eval", "--problems", "six", "--limit", "30", "--samples", "1") == pytest.approx(six * 6 * 30 / 1547)
    assert cost_of("tirgen", "--count", "480") == pytest.approx(cost_of("tirgen", "--count", "48000") / 100)
    a_round = cost_of("rl", "--num-rounds", "1")
    assert cost_of("rl", "--num-rounds", "40") == pytest.approx(40 * a_round)
    # a round samples 2,048 trajectories of 1,019 tokens, and half of 2,048 repairs of 300: 2.4 million tokens
    bounds = {"--max-sampled-tokens": ("300000", 1), "--max-seconds": ("600", 3)}
    for option, (value, rounds) in bounds.items():
        assert cost_of("rl", "--num-rounds", "1000", option, value) == pytest.approx(rounds * a_round), option
    assert cost_of("rl", "--levels", "episode") < cost_of("rl")


def is_new(job: Job, seen: set[tuple[str, ...]]) -> bool:
    """True for a command that differs from those before it in more than its folders."""
    words = (job.stage.command, *("folder" if word.startswith("runs/") else word for word in job.words))
    return words not in seen and not seen.add(words)


@pytest.mark.parametrize(
    ("subject", "names"),
    [(PAPER[0].subject, [*TABLES, "gsm8k"]), (PAPER[1].subject, ["gsm8k"]), (SUBJECTS["nano"], ["family", "figure4"])],
    ids=lambda each: getattr(each, "name", ""),
)
def test_every_command_is_taken_by_its_own_parser_and_means_what_it_says(subject: Subject, names: list[str]) -> None:
    layout, seen = Layout(subject=replace(subject, data="bench"), root=Path("runs"), stages=STAGES), set()
    usual = commands.parsed("rl", ["--preset", subject.preset]).rl
    for job in layout.jobs([row for name in names for row in EXPERIMENTS[name].rows], [0]):
        named = [word for word in job.words if word.startswith("--")]
        assert len(set(named)) == len(named), job.name
        if not is_new(job, seen):
            continue
        options = commands.parsed(job.stage.command, list(job.words))
        if job.stage.command == "rl":
            check_meaning(options.rl, usual)
        if job.stage.command == "eval":
            is_made = options.problems.startswith("reasoning_gym")
            assert ("--num-problems" in named) <= is_made, job.name
            assert "gsm8k" not in job.stage.name or options.problems == "gsm8k"
