"""Models and tokenizers by name: the two that come with the package, local folders, and names of the model hub."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thor_tir.address import is_address
from thor_tir.chat_template import PACKAGED, form_of, use_template
from thor_tir.distributed import gpus
from thor_tir.engines.options import ENGINES, EngineOptions
from thor_tir.errors import UsageError
from thor_tir.extras import need, need_of
from thor_tir.garbage import uncollected
from thor_tir.pretrained import CausalLM, ModelTokenizer

if TYPE_CHECKING:
    import torch

    from thor_tir.engines.local.step_barrier import StepBarrier
    from thor_tir.engines.protocol import OpenableEngine

EMBEDDED = {name: Path(__file__).parents[1] / name for name in ("nano/actor", "nano/critic", "nano/thinker")}
"""Folders of the models that the package carries, by the names they are asked for."""


_ASKED = "give a folder, or a hub name like Qwen/Qwen3-8B"


def open_engine(
    model: CausalLM,
    tokenizer: ModelTokenizer,
    options: EngineOptions,
    *,
    deterministic: bool = False,
    barrier: "StepBarrier | None" = None,
    trains: bool = False,
    say: Callable[[str], None],
) -> "OpenableEngine":
    """The engine that the options name, over a loaded model. Engines that serve the same trajectories share a barrier.

    A deterministic engine steps only when every trajectory waits, so that equal seeds give equal bits whatever time
    tools take. `trains` says that each process has a GPU for training beside the engine. `say` tells a person what
    becomes of servers.

    Raises UsageError where the engine's packages are not installed.
    """
    try:
        with uncollected():
            module = import_module(ENGINES[options.name])
    except ModuleNotFoundError as error:
        need_of(error, f"the engine {options.name}")
        raise
    engine: OpenableEngine = module.open_engine(
        model, tokenizer, options, deterministic=deterministic, barrier=barrier, trains=trains, say=say
    )
    return engine


def check_engines(
    engines: Sequence[EngineOptions],
    *,
    deterministic: bool = False,
    processes: int = 1,
    trains: bool = False,
    is_here: bool = True,
) -> None:
    """Raise UsageError where `open_engine` would for these options, of engines that are open together.

    No server is started, and none is asked. `is_here` is False for a run on other machines than this one.
    """
    if is_here and any(options.cuda_graphs for options in engines) and not gpus():
        raise UsageError("--engine.cuda-graphs needs a GPU with CUDA, and there is none here; leave it out")
    if all(options.name == "local" for options in engines):
        return
    from thor_tir.engines.vllm.addresses import addresses_of, refuse_two_models
    from thor_tir.engines.vllm.opening import check_machine, check_options
    from thor_tir.engines.vllm.place import Place

    for options in engines:
        check_options(options, Place(size=processes), deterministic=deterministic)
    named = Counter(address for options in engines for address in addresses_of(options.address))
    if both := [address for address, count in named.items() if count > 1]:
        refuse_two_models(min(both))
    if is_here:
        check_machine(engines, processes=processes, trains=trains)


def keeping_servers(options: EngineOptions) -> AbstractAsyncContextManager[None]:
    """Within it the servers that an engine started stay for the next engine over a model of the same form."""
    if options.name == "local":
        return nullcontext()
    from thor_tir.engines.vllm.kept import keeping

    return keeping()


def load_model(
    name_or_path: str,
    *,
    dtype: "torch.dtype | None" = None,
    device: str | None = None,
    end_tokens: Sequence[str] = (),
    chat_template: str = "",
) -> tuple[CausalLM, ModelTokenizer]:
    """A causal language model in eval mode and its tokenizer, which has a chat template.

    `device` None takes the GPU where there is one. `dtype` None is float32 on a CPU and bfloat16 on a GPU. With
    HF_HUB_OFFLINE set, hub names are looked up in the local cache alone.

    `end_tokens` name tokens that end the model's turn beside those that it names itself; `chat_template` is used in
    place of its own, see `use_template`.

    Raises UsageError, in one sentence, for whatever cannot be loaded.
    """
    source = resolved(name_or_path)
    need("torch", f"the model {name_or_path!r}")
    with uncollected():
        return _loaded(name_or_path, source, dtype, device, end_tokens, chat_template)


def _loaded(
    name_or_path: str,
    source: str,
    dtype: "torch.dtype | None",
    device: str | None,
    end_tokens: Sequence[str],
    chat_template: str,
) -> tuple[CausalLM, ModelTokenizer]:
    import torch
    from transformers import AutoModelForCausalLM

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
    tokenizer = load_tokenizer(name_or_path, end_tokens, chat_template)
    try:
        with silent_transformers():
            model, found = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # the files are foreign, and each may be damaged in its own way
        raise UsageError(_unloaded(name_or_path, source, _reason(source, error))) from error
    if absent := sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"]))):
        raise UsageError(
            f"{name_or_path!r} lacks {len(absent)} weights of its own architecture, which would be drawn at random: "
            f"{', '.join(absent)[:300]}; its files are damaged, or its config.json is another model's"
        )
    loaded: CausalLM = model.to(device).eval()
    return loaded, tokenizer


def model_config(name_or_path: str) -> Any:
    """A model's configuration, as `transformers` has it. Raises UsageError for what is no model."""
    from transformers import AutoConfig

    source = resolved(name_or_path)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # a configuration is foreign, and may be damaged in its own way
        raise UsageError(_unloaded(name_or_path, source, _first_line(error))) from error


def num_parameters(name_or_path: str) -> int:
    """The number of a model's weights, from its configuration alone. Raises UsageError for what is no model."""
    import torch
    from transformers import AutoModelForCausalLM

    source, config = resolved(name_or_path), model_config(name_or_path)
    try:
        with torch.device("meta"):
            return int(AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters())
    except Exception as error:  # as above
        raise UsageError(_unloaded(name_or_path, source, _first_line(error))) from error


def stored_dtype(name_or_path: str) -> "torch.dtype":
    """The type of a model's numbers as they are stored: what its configuration says, or else its first weights.

    Raises UsageError for what is no model; float32 where nothing says more.
    """
    import torch

    config = model_config(name_or_path)
    if isinstance(config.dtype, torch.dtype) and config.dtype.is_floating_point:
        return config.dtype
    return next(_dtypes_of(Path(resolved(name_or_path))), torch.float32)


def _dtypes_of(folder: Path) -> "Iterator[torch.dtype]":
    """The floating types of the weights in a folder's files."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (the file's handle is no mapping)
                if (dtype := weights.get_tensor(key).dtype).is_floating_point:
                    yield dtype


def load_tokenizer(name_or_path: str, end_tokens: Sequence[str] = (), chat_template: str = "") -> ModelTokenizer:
    """The tokenizer alone, with the same errors. It remembers `end_tokens`, which end turns beside those it names."""
    source = resolved(name_or_path)
    need("transformers", f"the tokenizer of {name_or_path!r}")
    from transformers import AutoTokenizer

    try:
        tokenizer: ModelTokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the files are foreign, and each may be damaged in its own way
        raise UsageError(_unloaded(name_or_path, source, _first_line(error), "has no tokenizer that loads")) from error
    vocabulary = tokenizer.get_vocab()
    if vocabulary.keys() <= set(tokenizer.all_special_tokens):  # as transformers makes one where there are no files
        raise UsageError(
            f"{name_or_path!r} has no tokenizer files (tokenizer.json, tokenizer_config.json): copy them from the "
            "model that it was made from"
        )
    if chat_template:
        use_template(tokenizer, chat_template)
    if tokenizer.chat_template is None:
        raise UsageError(
            f"{name_or_path!r} has no chat template: give --chat-template FILE, or one of {', '.join(PACKAGED)}"
        )
    form_of(tokenizer)
    if unknown := [token for token in end_tokens if token not in vocabulary]:
        raise UsageError(
            f"--end-token {unknown[0]!r} is no token of {name_or_path!r}; "
            f"its added tokens are {', '.join(sorted(tokenizer.get_added_vocab()))[:500]}"
        )
    tokenizer.named_end_ids = frozenset(vocabulary[token] for token in end_tokens)
    return tokenizer


def resolved(name_or_path: str) -> str:
    """The path or hub name that transformers loads. Raises UsageError where there can be no model."""
    if is_address(name_or_path):
        raise UsageError(
            f"{name_or_path} serves a model, and what was asked for needs its weights here: give a folder or a hub name"
        )
    folder = EMBEDDED.get(name_or_path)
    if folder is None:
        path = Path(name_or_path).expanduser()
        if name_or_path.startswith("nano/") and not path.exists():
            raise UsageError(f"there is no model {name_or_path!r}: the package has {', '.join(EMBEDDED)}")
        looks_like_path = path.is_absolute() or name_or_path.startswith((".", "~")) or len(path.parts) != 2
        if looks_like_path and not path.exists():
            raise UsageError(f"there is no model at {name_or_path!r}: {_ASKED}")
        if ":" in name_or_path and not path.exists():
            raise UsageError(
                f"{name_or_path!r} is no model's name: {_ASKED}, or an address like http://10.0.0.5:8000/v1"
            )
        if (path / "model" / "config.json").exists() and not any(path.glob("*.safetensors")):
            raise UsageError(f"{name_or_path!r} is the folder of a run: its model is {path / 'model'}")
        if path.is_file() or (path.is_dir() and not any(path.glob("*.json"))):
            raise UsageError(f"{name_or_path!r} is no folder with a model in it: {_ASKED}")
        return str(path) if path.exists() else name_or_path
    if not (folder / "config.json").exists():
        raise UsageError(f"{name_or_path!r} is not in this installation: install the package again")
    return str(folder)


@contextmanager
def silent_transformers() -> "Iterator[None]":
    """Keep transformers' report of loading off the terminal: it prints names of a foreign file as they are.

    Its progress bars, one for every checkpoint however small, stay off from then on.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _unloaded(name: str, source: str, reason: str, lack: str = "is no causal language model") -> str:
    """The sentence about a model that does not load."""
    if Path(source).exists():
        return f"{name!r} {lack}: {reason}"
    return f"there is no folder {name!r}, and as a name on the hub it does not load ({reason})"


def _reason(source: str, error: Exception) -> str:
    """The reason why weights do not load."""
    folder = Path(source)
    if isinstance(error, OSError) and not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        return "its weights are a pickle (.bin), which could run code of its own; save them as safetensors first"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:500] or type(error).__name__
