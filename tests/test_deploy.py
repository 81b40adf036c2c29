"""Scripts and manifests of `deploy/`: they parse, and what they call is what `thor` reads."""

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from thor_tir.commands.config_file import with_config
from thor_tir.commands.options import defaults
from thor_tir.commands.training import Rl

DEPLOY = Path(__file__).parents[1] / "deploy"
RAYJOB = DEPLOY / "rayjob.yaml"


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sbatch")), ids=lambda file: file.stem)
def test_a_batch_script_is_one_that_bash_reads_and_its_options_are_settings_of_sbatch(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text(encoding="utf-8").splitlines()
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time", "requeue"} <= asked.keys()
    assert asked["ntasks-per-node"] == "1"  # one launcher a host
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])  # sbatch reads none behind the first command


def test_before_its_time_limit_a_batch_script_queues_the_job_again_and_then_waits_for_its_work(tmp_path: Path) -> None:
    programs = {
        "scontrol": 'if [ "$1" = requeue ]; then echo "requeued $2" >> "$LOG"; else echo one; fi',
        "srun": 'kill -USR1 "$PPID"; sleep 0.1; echo "cpus $SRUN_CPUS_PER_TASK" >> "$LOG"; exit 7',
    }
    for name, text in programs.items():
        (file := tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        file.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "one", "SLURM_CPUS_PER_TASK": "64"}
    where = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    ended = subprocess.run(["bash", str(DEPLOY / "torchrun.sbatch")], env={**os.environ, **slurm, **where}, check=False)
    assert ended.returncode == 7
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["cpus 64", "requeued 12"]


def test_the_words_of_the_rayjob_are_options_of_rl_and_its_gpus_are_the_clusters() -> None:
    job: dict[str, Any] = yaml.safe_load(RAYJOB.read_text(encoding="utf-8"))
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["thor", "rl"]
    recipe = DEPLOY.parent / "configs" / Path(words[words.index("--config") + 1]).name
    args = with_config("rl", [str(recipe) if word.endswith(".toml") else word for word in words[2:]])
    options = tyro.cli(Rl, args=args, default=defaults("rl", args))
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert options.processes == workers["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert options.launcher == "ray"


@pytest.mark.slow  # 1.4 MB of YAML
def test_the_rayjob_is_one_of_kuberays_schema() -> None:
    """THOR_RAYJOB_CRD names `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of the KubeRay repository."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    if (place := os.environ.get("THOR_RAYJOB_CRD")) is None:
        pytest.skip("THOR_RAYJOB_CRD names no schema of RayJobs")
    versions = yaml.safe_load(Path(place).read_text(encoding="utf-8"))["spec"]["versions"]
    schema = next(each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1")
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft202012Validator(schema)
    job = yaml.safe_load(RAYJOB.read_text(encoding="utf-8"))
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(job)] == []
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["repliccas"] = 2
    assert any("repliccas" in error.message for error in validator.iter_errors(job))


def _close(schema: Any) -> None:
    """Refuse fields that a schema does not name, as the server does where it is asked to be strict."""
    if isinstance(schema, list):
        for each in schema:
            _close(each)
    if isinstance(schema, dict):
        is_open = schema.get("x-kubernetes-preserve-unknown-fields")
        if schema.get("type") == "object" and "properties" in schema and not is_open:
            schema.setdefault("additionalProperties", False)
        for each in schema.values():
            _close(each)
