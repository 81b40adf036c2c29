"""A folder belongs to one run, and to one process at a time."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from thor_tir.errors import UsageError
from thor_tir.storage.run_lock import Growth, changes, check_claim, claim, option_changes, option_defaults

HOLDER = """
import sys
from pathlib import Path
from thor_tir.storage.run_lock import claim
with claim(Path(sys.argv[1]), {"seed": 1}):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    with (
        pytest.raises(UsageError, match=rf"^another process \(number {holder.pid}\) works in .*: wait") as caught,
        claim(tmp_path, {"seed": 1}),
    ):
        raise AssertionError("both may write")
    assert "\n" not in str(caught.value)
    holder.kill()
    holder.communicate()
    with claim(tmp_path, {"seed": 1}):
        assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_other_options_are_refused_by_their_names_and_the_same_ones_accepted(tmp_path: Path) -> None:
    options = {"rl": {"seed": 1, "families": ("a", "b")}, "output": tmp_path}
    for _ in range(2):
        with claim(tmp_path, options):
            pass
    with (
        pytest.raises(UsageError, match=r"other options \(rl.seed was 1, is 2\): give the same options"),
        claim(tmp_path, {**options, "rl": {"seed": 2, "families": ("a", "b")}}),
    ):
        raise AssertionError("another run may write here")
    with pytest.raises(UsageError, match="holds a run of another command"), claim(tmp_path, {"sft": {}, "data": ""}):
        raise AssertionError("another command may write here")


def test_a_run_may_be_continued_with_its_programs_and_its_engines_elsewhere(tmp_path: Path) -> None:
    def on(server: str, retries: int, replicas: int) -> dict[str, Any]:
        engine = {"name": "vllm", "address": [server], "replicas": replicas}
        endpoint = {"patience": {"retries": retries}}
        return {"resources": {"sandbox": {"endpoints": [server]}, "endpoint": endpoint, "engine": engine, "rows": 2}}

    options, moved = on("http://a", 5, 1), on("http://b", 9, 2)
    with claim(tmp_path, options):
        pass
    with claim(tmp_path, moved):
        pass
    moved["resources"]["rows"] = 3
    with pytest.raises(UsageError, match=r"other options \(resources.rows was 2, is 3\)"), claim(tmp_path, moved):
        raise AssertionError("another run may write here")


def test_a_damaged_list_of_options_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed"')
    with pytest.raises(UsageError, match=r"config.json is damaged, so nobody knows"), claim(tmp_path, {"seed": 1}):
        raise AssertionError("nobody knows what is continued")


def test_a_mistake_before_anything_was_written_gives_the_folder_up_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with pytest.raises(UsageError, match="mistaken"), claim(folder, {"seed": 1}):
        raise UsageError("mistaken")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="mistaken"), claim(folder, {"seed": 1}):
        _work_then_fail(folder)
    assert (folder / "config.json").exists()


def _work_then_fail(folder: Path) -> None:
    (folder / "work").touch()
    raise UsageError("mistaken")


def test_options_that_came_or_went_are_changes_too() -> None:
    assert changes({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"d": None, "e": "x"}}) == [
        "b.c was 2, is null",
        'b.e was null, is "x"',
    ]


@dataclass(frozen=True, kw_only=True)
class Inner:
    rows: int = 3
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True, kw_only=True)
class Outer:
    model: str
    inner: Inner
    twice: Inner = field(default_factory=lambda: Inner(rows=6))
    where: Path | None = None


def test_an_option_that_came_to_the_program_later_counts_as_its_default() -> None:
    options = Outer(model="m", inner=Inner(rows=4, names=("b",)))
    assert option_defaults(options) == {
        "inner": {"rows": 3, "names": ["a"]},
        "twice": {"rows": 6, "names": ("a",)},
        "where": None,
    }
    older = {"model": "m", "inner": {"rows": 4}}
    found = option_changes(older, asdict(options), option_defaults(options))
    assert list(map(str, found)) == ['inner.names was ["a"], is ["b"]']
    assert not option_changes(older, asdict(replace(options, inner=Inner(rows=4))), option_defaults(options))


def test_a_run_that_is_older_than_an_option_goes_on_with_its_default_alone(tmp_path: Path) -> None:
    with claim(tmp_path, {"seed": 1}):
        pass
    for _ in range(2):
        with claim(tmp_path, {"seed": 1, "rl": {"refill": 0}}, defaults={"rl": {"refill": 0}}):
            pass
    with (
        pytest.raises(UsageError, match=r"other options \(rl.refill was 0, is 2\)"),
        claim(tmp_path, {"seed": 1, "rl": {"refill": 2}}, defaults={"rl": {"refill": 0}}),
    ):
        raise AssertionError("another run may write here")


def test_a_mistake_leaves_the_folder_above_to_a_run_that_has_begun_beside_it(tmp_path: Path) -> None:
    def beside() -> None:
        (tmp_path / "runs" / "other").mkdir()
        raise UsageError("mistaken")

    with pytest.raises(UsageError, match="mistaken"), claim(tmp_path / "runs" / "mine", {"seed": 1}):
        beside()
    assert [place.name for place in (tmp_path / "runs").iterdir()] == ["other"]


def begun(folder: Path, **options: object) -> None:
    """A run of these options and of the inputs `data`, `model` and `benchmarks` begins, or goes on."""
    inputs = [str(options[name]) for name in ("data", "model") if name in options]
    with claim(folder, {**options, "output": folder}, inputs=[*inputs, *map(str, options.get("benchmarks", ()))]):
        (folder / "work.jsonl").touch()


def laid_out(top: Path) -> Path:
    """A data set, a model's folder, benchmarks, and a run that was made of them."""
    (top / "model").mkdir(parents=True)
    for name in ("data.jsonl", "one.jsonl", "two.jsonl", "model/config.json", "model/model.safetensors"):
        (top / name).write_text(name)
    return top


def options_at(top: Path) -> dict[str, object]:
    return {
        "seed": 1,
        "data": top / "data.jsonl",
        "model": str(top / "model"),
        "benchmarks": (str(top / "one.jsonl"), str(top / "two.jsonl")),
    }


def test_a_run_that_was_moved_goes_on_where_it_is(tmp_path: Path) -> None:
    top = laid_out(tmp_path / "here")
    begun(tmp_path / "run", **options_at(top))
    (tmp_path / "run").rename(tmp_path / "moved")
    begun(tmp_path / "moved", **options_at(top))
    assert (tmp_path / "moved" / "work.jsonl").exists()


def test_a_run_that_was_moved_with_all_that_it_is_made_of_goes_on_where_it_is(tmp_path: Path) -> None:
    top = laid_out(tmp_path / "here")
    begun(top / "run", **options_at(top))
    top.rename(tmp_path / "there")
    for _ in range(2):
        begun(tmp_path / "there" / "run", **options_at(tmp_path / "there"))


def test_an_input_may_be_named_from_another_working_directory(tmp_path: Path, monkeypatch) -> None:
    top = laid_out(tmp_path / "here")
    monkeypatch.chdir(top)
    begun(Path("run"), **options_at(Path()))
    monkeypatch.chdir(tmp_path)
    begun(Path("here/run"), **options_at(Path("here")))


@pytest.mark.parametrize("changed", ["data.jsonl", "two.jsonl", "model/config.json", "model/model.safetensors"])
def test_an_input_that_was_moved_and_changed_is_refused_in_one_sentence(tmp_path: Path, changed: str) -> None:
    top = laid_out(tmp_path / "here")
    begun(top / "run", **options_at(top))
    there = top.rename(tmp_path / "there")
    (there / changed).write_text("other")
    with pytest.raises(UsageError, match=r"holds a run with other options \((data|model|benchmarks) was"):
        begun(there / "run", **options_at(there))


def test_a_hub_name_is_no_copy_of_a_folder_and_other_options_still_count(tmp_path: Path) -> None:
    top = laid_out(tmp_path / "here")
    begun(tmp_path / "run", **options_at(top))
    with pytest.raises(UsageError, match="model was"):
        begun(tmp_path / "run", **{**options_at(top), "model": "some/model"})
    there = top.rename(tmp_path / "there")
    with pytest.raises(UsageError, match=r"other options \(seed was 1, is 2\)"):
        begun(tmp_path / "run", **{**options_at(there), "seed": 2})


def test_fewer_inputs_of_a_list_are_other_inputs(tmp_path: Path) -> None:
    top = laid_out(tmp_path / "here")
    begun(tmp_path / "run", **options_at(top))
    with pytest.raises(UsageError, match="benchmarks was"):
        begun(tmp_path / "run", **{**options_at(top), "benchmarks": (str(top / "one.jsonl"),)})


LONGER = Growth(option="rl.num_rounds", is_wanted=True)
AS_IT_IS = Growth(option="rl.num_rounds")


def rounds(number: int, seed: int = 0) -> dict[str, object]:
    return {"rl": {"num_rounds": number, "seed": seed}}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_a_run_gets_longer_where_that_is_asked_for_and_its_record_keeps_the_lengths(tmp_path: Path) -> None:
    with claim(tmp_path, rounds(20), growth=AS_IT_IS):
        pass
    for number in (20, 40, 40, 60):  # an equal number goes on, as it does without --extend
        with claim(tmp_path, rounds(number), growth=LONGER):
            pass
    with claim(tmp_path, rounds(60), growth=AS_IT_IS):  # and the new length is the run's from there on
        pass
    record = record_of(tmp_path)
    assert [(e["option"], e["was"], e["now"]) for e in record["extended"]] == [
        ("rl.num_rounds", 20, 40),
        ("rl.num_rounds", 40, 60),
    ]
    assert record["options"] == json.loads((tmp_path / "config.json").read_text()) == rounds(60)


def test_a_kill_within_an_extension_leaves_one_entry_of_it(tmp_path: Path, monkeypatch) -> None:
    with claim(tmp_path, rounds(20)):
        pass
    before = (tmp_path / "config.json").read_text()
    with claim(tmp_path, rounds(40), growth=LONGER):
        pass
    (tmp_path / "config.json").write_text(before)  # run.json was written, the options were not
    with claim(tmp_path, rounds(40), growth=LONGER):
        pass
    assert len(record_of(tmp_path)["extended"]) == 1


@pytest.mark.parametrize(
    ("options", "growth", "told"),
    [
        (rounds(40), AS_IT_IS, r"num_rounds was 20, is 40\): add --extend to make it longer, give the same options"),
        (rounds(10), AS_IT_IS, r"num_rounds was 20, is 10\): give the same options"),
        (rounds(10), LONGER, r"--num-rounds is 10, and the run in .* has 20: --extend makes a run longer, never"),
        (rounds(40, seed=1), LONGER, r"other options \(rl.seed was 0, is 1; rl.num_rounds was 20, is 40\): give the"),
    ],
)
def test_nothing_but_a_larger_number_is_taken_and_only_where_it_is_asked_for(tmp_path, options, growth, told) -> None:
    with claim(tmp_path, rounds(20)):
        pass
    held = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=told) as caught, claim(tmp_path, options, growth=growth):
        raise AssertionError("another run may write here")
    with pytest.raises(UsageError, match=told):
        check_claim(tmp_path, options, growth=growth)
    assert "\n" not in str(caught.value)
    (tmp_path / ".lock").write_bytes(held[".lock"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == held


def test_there_must_be_a_run_to_extend(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="holds no run that could be extended"),
        claim(tmp_path / "typo", rounds(40), growth=LONGER),
    ):
        raise AssertionError("a run is begun")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_compares_options_and_inputs_and_writes_nothing(tmp_path: Path) -> None:
    top = laid_out(tmp_path / "here")
    options = options_at(top)
    inputs = [str(top / "data.jsonl")]
    check_claim(tmp_path / "new", options, inputs=inputs)
    assert not (tmp_path / "new").exists()
    with claim(tmp_path / "run", options, inputs=inputs):
        pass
    held = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    check_claim(tmp_path / "run", options, inputs=inputs)
    with pytest.raises(UsageError, match=r"other options \(seed was 1, is 2\)"):
        check_claim(tmp_path / "run", options | {"seed": 2}, inputs=inputs)
    (top / "data.jsonl").write_text("others")
    with pytest.raises(UsageError, match=r"data.jsonl changed since the run"):
        check_claim(tmp_path / "run", options, inputs=inputs)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == held


def test_a_stage_of_a_whole_run_is_extended_by_the_options_that_made_it(tmp_path: Path) -> None:
    stage = tmp_path / "rl"
    stage.mkdir()
    made = Growth(option="rl.num_rounds", is_wanted=True, begun_as=rounds(20))
    with pytest.raises(UsageError, match=r"rl.seed was 0, is 1"), claim(stage, rounds(40, seed=1), growth=made):
        raise AssertionError("another run may write here")
    with claim(stage, rounds(40), growth=made):
        assert record_of(stage)["extended"][0]["was"] == 20
    with claim(stage, rounds(60), growth=made):
        assert [entry["was"] for entry in record_of(stage)["extended"]] == [20, 40]
