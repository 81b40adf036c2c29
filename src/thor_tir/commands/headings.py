"""The order of a help page: the options that people set first, and headings for all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ESSENTIALS: Mapping[str, Sequence[str]] = {
    "tirgen": ("actor", "critic", "problems", "count", "attempts", "reasoning", "output", "preset", "seed", "dry-run"),
    "tirgen generate": (
        *("actor", "critic", "problems", "count", "attempts", "reasoning", "output", "preset", "seed", "shard"),
        "dry-run",
    ),
    "tirgen filter": ("sources", "output", "preset", "seed"),
    "sft": (
        *("model", "data", "output", "preset", "num-train-epochs", "learning-rate", "train-batch-size", "max-length"),
        *("reasoning", "seed", "extend", "dry-run"),
    ),
    "rl": (
        *("model", "problems", "output", "preset", "num-rounds", "num-generations", "learning-rate", "reward"),
        *("rollout.max-completion-length", "reasoning", "seed", "extend", "dry-run"),
    ),
    "solve": ("question", "file", "model", "attempts", "select", "reasoning", "seed", "preset", "json"),
    "chat": ("model", "remember", "attempts", "select", "reasoning", "seed", "preset"),
    "serve": ("model", "host", "port", "key-file", "served-name", "reasoning", "preset"),
    "eval": (
        *("model", "problems", "data", "limit", "samples", "tools", "correct", "select", "reasoning", "output"),
        *("preset", "seed", "dry-run"),
    ),
    "eval select": ("folder", "select"),
    "engine up": ("model", "replicas", "tensor-parallel", "devices", "host", "port", "python", "weights", "output"),
    "data show-prompt": ("model", "problems", "first", "styles", "reasoning"),
}
"""What everyone needs, in the order in which it is asked about; of a command that is not here its own options."""


@dataclass(frozen=True, slots=True)
class Heading:
    """Options that belong together."""

    title: str
    """The words above them."""
    names: Sequence[str]
    """Names of options; one that ends in a dot stands for all within that group."""
    records: Sequence[str] = ()
    """Names of the records whose other options stand here too."""


FIRST, OTHERS = "What everyone needs", "Options"
HEADINGS = (
    Heading("Problems: columns and choice", ("question-field", "answer-field", "system-field", "first", "count")),
    Heading(
        "Problem sets, parts of them, attempts",
        ("num-problems", "window", "shard", "accept-modified"),
        ("EvalConfig",),
    ),
    Heading("Conversations: columns and turns", ("train-turns", "ask-as", "calls-as"), ("ChatFields", "ChatConfig")),
    Heading(
        "Model: server, chat template, ends of turns",
        (
            *("model-name", "model-tokenizer", "model-key", "actor-model", "actor-tokenizer", "actor-key"),
            *("critic-model", "critic-tokenizer", "critic-key", "end-token", "chat-template"),
        ),
    ),
    Heading("Tools, calls, and what the model reads", ("dialect", "tool", "prompts", "observation."), ("CallConfig",)),
    Heading(
        "Actor: steps and sampling",
        ("step-tokens", "step-stop", "max-completion-length", "max-steps", "temperature", "top-k", "thinking."),
        ("TirgenConfig",),
    ),
    Heading("Critic: turns steps into programs", ("critic.", "max-repairs")),
    Heading(
        "Attempts at a question, and what they may cost",
        ("until-solved", "per-question.", "total.", "no-tools-samples"),
        ("AttemptScheduleConfig",),
    ),
    Heading("Filter: what is kept", ("filter.",)),
    Heading(
        "Rounds",
        (
            *("levels", "problems-per-round", "updates-per-round", "refill", "calls-grow-over"),
            *("max-sampled-tokens", "max-seconds"),
        ),
        ("RLConfig",),
    ),
    Heading("Sampling of a trajectory", ("rollout.",)),
    Heading(
        "Whole trajectories (the episode level)",
        ("nll-weight", "filters", "min-tokens", "box-window", "min-survivors", "min-share"),
        ("EpisodeConfig",),
    ),
    Heading("Single failed calls (the step level)", ("step.",)),
    Heading("Repair of failed calls (self-correction)", ("correction.",)),
    Heading("Reward models, for selectors that ask them", ("rewards.", "selectors")),
    Heading("Answers and programs: how they are judged", ("judge-model", "judge-url", "judge-key", "extractor")),
    Heading(
        "Loss",
        (
            *("algorithm", "epsilon", "epsilon-high", "delta", "advantages", "beta", "importance-sampling-cap"),
            "trains-observations",
        ),
        ("LossConfig",),
    ),
    Heading("Optimiser", ("warmup-steps", "lr-scheduler-type", "max-grad-norm"), ("SftConfig",)),
    Heading(
        "Memory and precision",
        ("micro-batch-tokens", "bf16", "gradient-checkpointing", "lora-r", "lora-alpha", "save-dtype"),
        ("AdapterConfig",),
    ),
    Heading("Validation", ("validate-every", "num-validation", "validation-problems")),
    Heading(
        "Curves, transcripts and warnings",
        ("report-to", "show-every", "show-count", "warn-dropped-share"),
        ("MonitorConfig",),
    ),
    Heading("A cluster: hosts by Ray, and plans for GPUs that are not here", ("launcher", "ray.", "cluster.")),
    Heading("Checkpoints, processes, publishing", ("save-steps", "save-total-limit", "processes", "push-to-hub")),
    Heading("Requests: time and records", ("request-s", "drain-s", "audit-log")),
    Heading("Requests: how many at a time", ("queue.",)),
    Heading("Requests: the most that one may ask for", ("bounds.",)),
    Heading("Programs: where and how they run", ("sandbox.",)),
    Heading("Engine: how local models are sampled", ("engine.", "concurrency", "deterministic"), ("ResourceConfig",)),
    Heading(
        "Servers: memory, precision, access",
        ("force-public", "dtype", "max-num-seqs", "num-threads", "sleep", "arguments"),
    ),
    Heading("Models behind an address: requests and retries", ("endpoint.",)),
)
"""Headings in their order; an option stands below the first that names it."""


def heading_of(flag: str, record: str) -> str:
    """The title above an option of a record that is none of the essentials."""
    for heading in HEADINGS:
        if any(flag == name or (name.endswith(".") and flag.startswith(name)) for name in heading.names):
            return heading.title
    group = flag.partition(".")[0]
    own = OTHERS if group == flag else f"{group[0].upper()}{group[1:]}"  # a group without a heading here has its name
    return next((heading.title for heading in HEADINGS if record in heading.records), own)
