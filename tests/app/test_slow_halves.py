"""Products in bfloat16 on a processor that has none: said, and not what `thor reproduce` runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir import products
from thor_tir.commands import parsed, run
from thor_tir.commands.options import tell_precision
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from thor_tir.reproduce.declared import Layout, Subject
from thor_tir.reproduce.precision import HALVES, IN_FLOAT32, here
from thor_tir.reproduce.runner import note_done, plan
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import LADDER

HALF = EngineOptions(bf16=True)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "multiplies_halves", lambda: False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "multiplies_halves", lambda: True)


def told(**asked: object) -> list[str]:
    lines: list[str] = []
    tell_precision(lines.append, **asked)  # type: ignore[arg-type]
    return lines


@pytest.mark.usefixtures("slow")
def test_whoever_asks_for_the_slow_way_is_told_the_option_that_is_faster() -> None:
    (line,) = told(trains=True)
    assert line.endswith("--no-bf16 is faster here")
    (line,) = told(engine=HALF, models=["nano/actor"])
    assert line.endswith("in float32: --engine.no-bf16 is faster here")
    (line,) = told(trains=True, engine=HALF, models=["http://one/v1", "nano/actor"])
    assert "--no-bf16 and --engine.no-bf16" in line


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"engine": EngineOptions(), "models": ["nano/actor"]},
        {"engine": HALF, "models": ["http://one/v1"]},
        {"engine": replace(HALF, name="vllm"), "models": ["nano/actor"]},
    ],
)
def test_nothing_is_said_where_nothing_here_multiplies_in_it(asked: dict[str, object]) -> None:
    assert told(**asked) == []


@pytest.mark.usefixtures("slow")
def test_of_processes_that_train_together_the_first_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert told(trains=True) == []


@pytest.mark.usefixtures("quick")
def test_nothing_is_said_where_the_processor_has_such_products() -> None:
    assert told(trains=True, engine=HALF, models=["nano/actor"]) == []


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("command", "asks", "option"),
    [
        ("rl --model nano/actor", "--bf16", "--no-bf16"),
        ("eval", "--engine.bf16", "--engine.no-bf16"),
        ("tirgen", "--engine.bf16", "--engine.no-bf16"),
    ],
)
def test_commands_and_their_dry_runs_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, asks: str, option: str
) -> None:
    name, *words = command.split()
    for asked in ([asks], []):
        run(name, [*words, *asked, "--output", str(tmp_path / "out"), "--dry-run"])
        said = " ".join(capsys.readouterr().out.split())
        assert (f"{option} is faster here" in said) is bool(asked)


def jobs_of(subject: Subject, root: Path):
    return Layout(subject=subject, root=root, stages=STAGES).jobs(LADDER.rows, [0])


@pytest.mark.usefixtures("slow")
def test_a_table_of_a_model_in_bfloat16_is_run_in_float32_on_such_a_machine(tmp_path: Path) -> None:
    lines: list[str] = []
    subject = here(SUBJECTS["smollm2-135m"], lines.append)
    assert len(lines) == 1
    for job in jobs_of(subject, tmp_path):
        if job.stage.command in IN_FLOAT32:
            options = parsed(job.stage.command, list(job.words))
            halves = [
                getattr(part, "bf16", False)
                for part in (
                    getattr(options, "rl", None),
                    getattr(options, "sft", None),
                    options.resources.engine if hasattr(options, "resources") else None,
                )
            ]
            assert not any(halves), job.words
    assert here(SUBJECTS["nano"], lines.append) is SUBJECTS["nano"]
    assert len(lines) == 1


def test_presets_of_models_on_a_cpu_that_ask_for_bfloat16_are_known(tmp_path: Path) -> None:
    asking = set()
    for subject in SUBJECTS.values():
        for job in jobs_of(subject, tmp_path):
            options = parsed(job.stage.command, list(job.words))
            if getattr(getattr(options, job.stage.command, None), "bf16", False):
                asking.add(subject.preset)
    assert asking == set(HALVES)


@pytest.mark.usefixtures("quick")
def test_it_stays_in_bfloat16_on_another_one(tmp_path: Path) -> None:
    assert here(SUBJECTS["smollm2-135m"], pytest.fail) is SUBJECTS["smollm2-135m"]


@pytest.mark.usefixtures("slow")
def test_stages_that_were_finished_in_the_other_precision_are_known_again(tmp_path: Path) -> None:
    small = SUBJECTS["smollm2-135m"]
    one, other = jobs_of(small, tmp_path), jobs_of(here(small, lambda line: None), tmp_path)
    assert [job.words for job in one] != [job.words for job in other]
    for job in one:
        note_done(job, 1.0)
    assert all(each.is_done for each in plan(other))
    with pytest.raises(UsageError, match="another stage"):
        plan([replace(other[0], words=(*other[0].words, "--seed", "9"))])
