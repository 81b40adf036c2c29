"""Commands that do something small: evaluate and solve with the embedded model, look at a stored run."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fake_run import CODE, write_run
from thor_tir import cli, commands  # with the commands, so that libraries log to the stderr of the whole session
from thor_tir.app.config import RunConfig
from thor_tir.engines.loading import EMBEDDED
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError

SMALL = ("--limit", "4", "--samples", "1", "--rollout.max-completion-length", "64")

embedded = pytest.mark.skipif(
    not (EMBEDDED["nano/actor"] / "model.safetensors").exists(),
    reason="the embedded model is not in this tree; tools/nano_models makes it",
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def status_of(*argv: str) -> int:
    """The exit status of a command that is run in this process."""
    assert {argv[0], " ".join(argv[:2])} & set(commands.COMMANDS)
    with pytest.raises(SystemExit) as ended:
        cli.main(list(argv))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@embedded
def test_an_evaluation_leaves_one_row_and_one_attempt_a_problem_and_redoes_none(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("eval", *SMALL, "--output", "out") == 0
    results = json.loads((empty_folder / "out" / "results.json").read_text())
    (row,) = results["sets"]
    assert (results["name"], row["name"], row["n"]) == ("tools", "reasoning_gym", 4)
    assert row["avg"]["value"] in (0, 0.25, 0.5, 0.75, 1)  # one attempt each
    assert row["tokens_kept"] <= 64
    journal = empty_folder / "out" / "attempts" / "reasoning_gym.jsonl"
    attempts = lines_of(journal)
    assert len({attempt["problem_id"] for attempt in attempts}) == len(attempts) == 4
    assert "reasoning_gym" in capsys.readouterr().out
    assert status_of("eval", *SMALL, "--output", "out") == 0
    assert lines_of(journal) == attempts
    assert status_of("show", "out") == 0
    assert status_of("eval", "compare", "out", "out") == status_of("eval", "merge", "out") == 0
    capsys.readouterr()
    assert status_of("eval", *SMALL, "--observation.style", "located", "--output", "out") == 2
    assert 'observation.style was "brief", is "located"' in capsys.readouterr().err
    for option, told in ("--seed", "eval.seed was 0, is 7"), ("--samples", "eval.samples was 1, is 7"):
        assert status_of("eval", *SMALL, "--output", "out", option, "7") == 2  # these would be another run's attempts
        assert told in capsys.readouterr().err


@embedded
def test_a_deterministic_run_is_done_again_to_the_last_bit_from_its_own_record(empty_folder: Path) -> None:
    sizes = "--problems-per-round 2 --num-generations 3 --step.num-generations 2 --rollout.max-completion-length 96"
    few = f"--problems reasoning_gym:gcd --count 4 --num-rounds 1 --validate-every 0 --seed 5 {sizes} --report-to"
    assert status_of("rl", "--model", "nano/actor", "--deterministic", *few.split(), "--output", "first") == 0
    weights = (empty_folder / "first" / "model" / "model.safetensors").read_bytes()
    assert weights != (EMBEDDED["nano/actor"] / "model.safetensors").read_bytes()
    assert status_of("rl", "--config", "first/run.json", "--output", "again") == 0
    assert (empty_folder / "again" / "model" / "model.safetensors").read_bytes() == weights


@embedded
def test_a_selector_counts_one_attempt_of_each_problem_and_pays_for_all(empty_folder: Path) -> None:
    options = ("--limit", "4", "--samples", "2", "--rollout.max-completion-length", "64")
    assert status_of("eval", *options, "--select", "vote", "--output", "chosen") == 0
    results = json.loads((empty_folder / "chosen" / "results.json").read_text())
    (row,) = results["sets"]
    assert (results["select"], row["attempts"], sum(row["ends"].values())) == ("vote", 8, 4)
    assert status_of("eval", *options, "--output", "all") == 0
    assert status_of("eval", "compare", "chosen", "all", "--output", "difference.json") == 0
    found = json.loads((empty_folder / "difference.json").read_text())
    assert found["sets"][0]["first"] == row["avg"]["value"]  # of the chosen attempts
    assert status_of("eval", *options, "--select", "longest", "--output", "none") == 2


@embedded
def test_a_question_is_answered_with_its_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("solve", cli.EXAMPLE) == 0  # as `thor --help` shows it
    told, beside = capsys.readouterr()
    assert beside.startswith("model: nano/actor\n")
    assert "print(math.gcd(436, 576))" in told
    assert "answer: 4\n" in told


def test_show_lists_what_a_run_has_stored(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(empty_folder / "run", num_trajectories=5)
    assert status_of("show", "run") == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "trajectories: 5 trajectories"
    assert [line.split()[0] for line in lines] == [f"p{i}/0" for i in range(5)]
    assert all("What is gcd(84, 36)?" in line for line in lines)


def test_show_prints_one_trajectory_with_its_program_and_what_it_printed(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(empty_folder / "run", num_trajectories=5)
    assert status_of("show", "run", "p0/0") == 0
    told = capsys.readouterr().out
    assert "What is gcd(84, 36)?" in told
    assert all(line in told for line in CODE.splitlines())
    assert "NameError: name 'gcd' is not defined" in told


def test_the_page_of_a_run_is_written_again(empty_folder: Path) -> None:
    write_run(empty_folder / "run", num_trajectories=5)
    assert status_of("view", "run", "--export", "run/report.html") == 0
    assert '"name":"SFT"' in (empty_folder / "run" / "report.html").read_text(encoding="utf-8")


def test_an_id_that_no_trajectory_has_is_refused(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(empty_folder / "run", num_trajectories=5)
    assert status_of("show", "run", "p7") == 2
    assert "'p7'" in capsys.readouterr().err


def test_a_damaged_trajectory_is_counted_below_the_list(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_run(empty_folder / "run", num_trajectories=2) / "trajectories.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"trajectory": {}}\n', encoding="utf-8")
    assert status_of("show", "run") == 0
    told = capsys.readouterr().out
    assert "p1/0" in told
    assert "trajectories.jsonl: 1 line is damaged and not shown" in told


def test_a_fault_of_the_machine_is_one_sentence_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thor_tir.errors import SandboxUnavailable

    def broken(name: str, args: list[str]) -> None:
        raise SandboxUnavailable("no process could be started")

    monkeypatch.setattr(commands, "run", broken)
    assert status_of("doctor") == 1
    told = capsys.readouterr().err
    assert told.startswith("thor: no process could be started")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence_wherever_it_is_met(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(name: str, args: list[str]) -> None:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("the writer failed") from cause

    monkeypatch.setattr(commands, "run", full)
    assert status_of("eval") == 1
    told = capsys.readouterr().err
    assert told.startswith("thor: no room is left on the disk")
    assert told.count("\n") == 1


IN_FLIGHT = """
async def request(number):
    try:
        if number == 3:
            end()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)
async def requests_in_flight():
    async with asyncio.TaskGroup() as requests:
        for number in range(6):
            requests.create_task(request(number))
"""
"""Requests one of which runs when SIGTERM comes."""


@pytest.mark.parametrize(
    "works",
    [
        "threading.Timer(0.3, end).start()",
        "threading.Timer(0.3, end).start(); asyncio.run(asyncio.sleep(60))",
        "asyncio.run(requests_in_flight())",
        "signal.signal(signal.SIGINT, signal.SIG_IGN); asyncio.run(requests_in_flight())",
    ],
    ids=["computing", "waiting", "requests in flight", "behind a shell's &"],
)
def test_sigterm_says_how_to_go_on_with_status_143(works: str) -> None:
    told = (
        "import asyncio, os, signal, threading, time, thor_tir.cli as cli, thor_tir.commands as commands\n"
        f"{IN_FLIGHT}\n"
        "def end(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "def work(name, args):\n"
        f"    {works}\n"
        "    time.sleep(60)\n"
        "commands.run = work\n"
        "cli.main(['rl'])"
    )
    ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 143
    assert ended.stderr == "thor: ended by SIGTERM; the same command continues where this one stopped\n"


def test_doctor_says_what_a_core_installation_can_do_and_what_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    from thor_tir.commands import reading

    whole = list(reading._abilities())
    assert len(whole) == 1
    assert whole[0].startswith("THOR can run here: ")
    monkeypatch.setattr(reading, "is_installed", lambda package: package != "torch")
    part, lack = reading._abilities()
    assert part.startswith("THOR can run here in part: grading, programs, data, and models behind addresses; generated")
    assert lack.startswith("NOT here: models on this machine")
    assert lack.endswith("pip install '.[local]'")


def test_a_quickstart_hands_its_engine_to_every_stage_in_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = []

    async def run(config: RunConfig, *_: Any) -> None:
        asked.append(config.resources.engine)
        raise UsageError("enough")

    monkeypatch.setattr("thor_tir.app.stages.quickstart.run_quickstart", run)
    words = ("quickstart", "--output", str(tmp_path), "--engine.name", "vllm")
    assert status_of(*words, "--engine.replicas", "2") == 2
    assert asked == [EngineOptions(name="vllm", replicas=2, num_threads=1)]
    assert status_of(*words, "--engine.address", "http://127.0.0.1:8100") == 2
    assert "name servers of both, with --engine.critic-address, or neither" in capsys.readouterr().err
    assert len(asked) == 1
    both = ("--engine.address", "http://127.0.0.1:8100", "--engine.critic-address", "http://127.0.0.1:8101")
    assert status_of(*words, *both) == 2
    assert asked[1].of_critic.address == ("http://127.0.0.1:8101",)


@pytest.mark.parametrize("command", [("rl",), ("eval",), ("eval", "select", "."), ("serve",)])
def test_servers_of_a_critic_are_refused_where_none_is_asked(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*command, "--engine.name", "vllm", "--engine.critic-address", "http://127.0.0.1:8101") == 2
    said = capsys.readouterr().err
    assert "--engine.critic-address is of TIRGen's critic, and `thor " in said
    assert "asks none: leave it out" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("tirgen", "--critic", "http://c:1", "--engine.critic-address", "http://e:1"),
            "the critic is asked at http://c",
        ),
        (("tirgen", "--actor", "http://a:1/v1", "--critic", "http://c:1/v1"), "the model is asked at http://a:1/v1"),
        (("tirgen", "--actor", "http://a:1", "--engine.critic-address", "http://e:2"), "leave out --engine.address"),
        (("eval", "--model", "http://a:1/v1"), "the model is asked at http://a:1/v1: leave out --engine.address"),
    ],
)
def test_servers_that_nothing_would_be_asked_of_are_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*words, "--engine.name", "vllm", "--engine.address", "http://e:9") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (("--first", "4", "--count=10"), ""),
        (("--count", "10"), "first = 4"),
        ((), "first = 4\ncount = 10"),
        ((), "first = 4\n[rl]\ncount = 10"),
    ],
)
def test_two_words_that_ask_for_different_problems_are_refused(
    words: tuple[str, ...], content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.toml").write_text(content)
    assert status_of("rl", "--config", str(tmp_path / "own.toml"), *words, "--dry-run") == 2
    assert "give one of them" in capsys.readouterr().err


def test_what_sigterm_did_before_a_command_it_does_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    during = []
    monkeypatch.setattr(commands, "run", lambda *_: during.append(signal.getsignal(signal.SIGTERM)))
    assert status_of("doctor") == 0
    assert during != [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_interruption_says_how_to_go_on_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, args: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupted)
    assert status_of("quickstart") == 130
    assert "the same command continues" in capsys.readouterr().err
