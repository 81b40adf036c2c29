"""A disk without room in every stage: one sentence, no traceback, and the run continues where there is room again."""

import subprocess
import sys

import pytest

from small_disk import disk
from thor_tir.engines.loading import load_model
from thor_tir.errors import UsageError

pytestmark = pytest.mark.slow

KB, MB = 2**10, 2**20
STAGES = {
    "tirgen": ["--count", "12"],
    "eval": ["--problems", "reasoning_gym:gcd", "--num-problems", "4", "--samples", "1"],
    "rl": [
        *("--model", "nano/actor", "--count", "8", "--num-rounds", "1", "--problems-per-round", "2"),
        *("--num-generations", "2", "--step.num-generations", "2", "--validate-every", "1", "--num-validation", "2"),
    ],
}
ROOMS = [
    *(("tirgen", room) for room in (8 * KB, 40 * KB)),
    *(("eval", room) for room in (8 * KB, 20 * KB, 40 * KB, 60 * KB)),
    *(("rl", room) for room in (100 * KB, 3 * MB, 7 * MB)),
]
"""Another writer fails in each: records, journals, tables, plots, tensors, models."""


@pytest.fixture(autouse=True)
def needs_the_embedded_model():
    try:
        load_model("nano/actor")
    except UsageError:
        pytest.skip("the embedded models are not there")


@pytest.mark.parametrize(("stage", "room"), ROOMS)
def test_a_full_disk_ends_a_stage_with_one_sentence(tmp_path, stage, room):
    with disk(tmp_path / "disk", room):
        command = [sys.executable, "-m", "thor_tir", stage, *STAGES[stage], "--output", str(tmp_path / "disk" / "run")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("thor: no room is left on the disk")
    assert ended.stderr.count("\n") == 1
