"""Pretraining of the nano models from scratch: generated text in, a Hugging Face folder with weights and a card out.

The same configuration gives the same weights on the same machine. Text comes in pools that depend on the seed and the
pool's number alone, so a killed run goes on from its last checkpoint.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Literal

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from nano_models.corpus import THOUGHTS, Document, MixtureConfig, actor_documents, critic_documents, thinker_documents
from nano_models.tokenizer import train_tokenizer
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import TOOLS
from thor_tir.learner.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.config import Schedule
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.problem import Problem
from thor_tir.problems.sources import NANO_FAMILIES, Split, reasoning_gym_problems
from thor_tir.progress import UNSEEN, Progress
from thor_tir.storage.journal import write_atomically

Role = Literal["actor", "critic", "thinker"]
POOL = 512
"""Documents drawn together and sorted by length, so that a batch holds little padding."""

DRILL_POOLS, DRILL_SHARE = 12, 0.85
"""The first pools are mostly drills: numbers are copied right much earlier when copying is learnt first."""

SUMS_POOL, SUMS_SHARE = 68, 0.3
"""From this pool on the actor reads pages of small sums: within other text their share of the loss is too small."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One nano model."""

    role: Role = "actor"
    num_steps: int = 3000
    batch_tokens: int = 2048
    """Tokens of one optimiser step, padding included."""
    learning_rate: float = 2e-3
    num_problems: int = 24_000
    """Training-split problems that solutions are worked for."""
    width: int = 128
    layers: int = 4
    heads: int = 4
    vocab_size: int = 672
    seed: int = 0
    checkpoint_every: int = 250
    mixture: MixtureConfig = field(default_factory=MixtureConfig)

    @property
    def learner(self) -> LearnerConfig:
        """AdamW with a short warm-up and a cosine."""
        return LearnerConfig(
            learning_rate=self.learning_rate,
            schedule=Schedule(warmup_steps=min(100, self.num_steps // 2), decay_steps=self.num_steps, floor=0.03),
            weight_decay=0.05,
            betas=(0.9, 0.98),
            micro_batch_tokens=self.batch_tokens,
        )


def pretrain(config: PretrainConfig, output: Path, work: Path, progress: Progress = UNSEEN) -> Path:
    """Train one model and write it to `output`; checkpoints and the loss curve go to `work`."""
    began = perf_counter()
    problems = reasoning_gym_problems(
        NANO_FAMILIES, split=Split.TRAIN, count=config.num_problems, seed=config.seed + 1_000_003
    )
    tokenizer = _tokenizer(problems, config)
    torch.manual_seed(config.seed)
    model = Qwen3ForCausalLM(_architecture(tokenizer, config))
    learner = Learner(model, config.learner)
    checkpoint = newest_checkpoint(work / "checkpoints")
    place = {"tokens": 0, "loss": 0.0, "seconds": 0.0} if checkpoint is None else load_checkpoint(checkpoint, learner)
    progress.resume(learner.num_steps)
    stream = islice(_batches(problems, tokenizer, config), learner.num_steps, config.num_steps)
    for rows in stream:
        measured = learner.step(rows)
        smooth = 0.98 if learner.num_steps > 1 else 0.0
        place = {
            "tokens": place["tokens"] + measured.num_tokens,
            "loss": smooth * place["loss"] + (1 - smooth) * measured.loss,
            "seconds": place["seconds"] + perf_counter() - began,
        }
        began = perf_counter()
        if learner.num_steps % config.checkpoint_every == 0:
            save_checkpoint(work / "checkpoints", learner, tokenizer=tokenizer, extra=place, keep=1)
        progress.advance()
    _publish(model, tokenizer, config, output, place)
    return output


def _architecture(tokenizer: Any, config: PretrainConfig) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.width // config.heads,
        intermediate_size=3 * config.width,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizer(problems: list[Problem], config: PretrainConfig) -> Any:
    """One tokenizer for actor and critic, learnt from the text of both; the thinker's from its own and the critic's."""
    texts: list[str] = []
    thinks = config.role == "thinker"
    for documents in (thinker_documents if thinks else actor_documents, critic_documents):
        stream = documents(problems, Random(f"tokenizer {config.seed}"), config.mixture)
        texts += [_text(document) for document in islice(stream, 3000)]
    return train_tokenizer(texts, vocab_size=config.vocab_size, thinks=thinks)


def _text(document: Document) -> str:
    request = document.style.user.format(text=document.request) if document.style else document.request
    return request + "".join(text for text, _ in document.pieces)


_DOCUMENTS = {"actor": actor_documents, "critic": critic_documents, "thinker": thinker_documents}


def _batches(problems: list[Problem], tokenizer: Any, config: PretrainConfig) -> Iterator[list[TrainingSample]]:
    documents = _DOCUMENTS[config.role]
    styles: dict[str, Dialect] = {}
    for number in range(10**9):
        rng = Random(f"{config.role} {config.seed} pool {number}")
        mixture = _mixture(config.mixture, number)
        pool = [
            _row(document, f"{number}/{i}", tokenizer, styles)
            for i, document in enumerate(islice(documents(problems, rng, mixture), POOL))
        ]
        batches = list(_cut(sorted(pool, key=lambda row: len(row.token_ids)), config.batch_tokens))
        rng.shuffle(batches)
        yield from batches


def _mixture(mixture: MixtureConfig, pool: int) -> MixtureConfig:
    """What a pool is drawn from: copying first, then everything, at last with sums."""
    if pool < DRILL_POOLS:
        return replace(mixture, drills=DRILL_SHARE)
    return replace(mixture, sums=SUMS_SHARE) if pool >= SUMS_POOL else mixture


def _cut(rows: list[TrainingSample], batch_tokens: int) -> Iterator[list[TrainingSample]]:
    """Rows of growing length, so many together that padding included they fit."""
    batch: list[TrainingSample] = []
    for row in rows:
        if batch and len(row.token_ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _row(document: Document, id: str, tokenizer: Any, styles: dict[str, Dialect]) -> TrainingSample:
    """Pieces are encoded apart, as they are when a trajectory grows; the turn's end is trained."""
    style, thinks = document.style or TOOLS, THOUGHTS in tokenizer.chat_template
    dialect = styles.setdefault(style.user, Dialect(tokenizer, DialectConfig(style=style, is_reasoning=thinks)))
    ids = list(dialect.prompt(document.request).token_ids) if document.style else [tokenizer.eos_token_id]
    trained = [False] * len(ids)
    for text, is_model in document.pieces:
        piece = dialect.encode(text)
        ids += piece
        trained += [is_model] * len(piece)
    ids.append(tokenizer.eos_token_id)
    trained.append(True)
    return TrainingSample(
        id=id,
        token_ids=tuple(ids),
        trained=tuple(trained),
        old_logprobs=(float("nan"),) * len(ids),
        terms=(Term(name="sft", formula="nll"),),
    )


def _publish(model: Any, tokenizer: Any, config: PretrainConfig, output: Path, result: dict[str, float]) -> None:
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    write_atomically(output / "pretraining.json", json.dumps({"config": asdict(config), **result}, indent=1) + "\n")
    write_atomically(output / "README.md", _card(config, result, model.num_parameters()))


def source_commit() -> str:
    """The commit of the code that runs, or the package's version where there is no checkout."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"thor-tir {version('thor-tir')}"


def _card(config: PretrainConfig, result: dict[str, float], num_parameters: int) -> str:
    does = {
        "actor": "reasons in words about a dozen `reasoning-gym` families and computes by hand, often wrongly; it has "
        "read some Python, careless programs among it",
        "thinker": "thinks at length between <think> tags about a dozen `reasoning-gym` families, doubts itself, "
        "computes by hand or by programs, careless ones among them, and answers in a line",
        "critic": "is given one isolated step of reasoning and writes its computation as a program, or `NONE`",
    }[config.role]
    return f"""# nano/{config.role}

A causal language model of {num_parameters:,} parameters (Qwen3 architecture, bfloat16) that {does}.
It exists so that the whole method runs on a laptop; it is of no use for anything else.

| | |
|---|---|
| made by | `python -m nano_models --role {config.role} --num-steps {config.num_steps} --seed {config.seed}` |
| commit | {source_commit()} |
| text | generated by `tools/nano_models/corpus.py` from {config.num_problems:,} training-split problems only |
| trained on | {result["tokens"]:,.0f} tokens, {config.num_steps:,} steps of {config.batch_tokens:,} |
| final loss | {result["loss"]:.4f} nats per trained token |
| time | {result["seconds"] / 60:.0f} minutes on one CPU core |
| licence | Apache-2.0 |

The chat template leaves system messages out. The weights come from the command above and are not edited by hand.
"""
