"""Cold start from a data set, as a stage of a run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thor_tir.app.config import CallConfig
from thor_tir.app.runtime import (
    PYTHON_ALONE,
    announce,
    dialect_of,
    load_trainable,
    publish,
    publishing_dtype,
)
from thor_tir.app.stages.sft_data import SftSource, read_sft_rows
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import TOOLS
from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import UsageError
from thor_tir.pretrained import ModelTokenizer, copy_weights
from thor_tir.progress import Reporter
from thor_tir.sft import train as sft
from thor_tir.sft.config import SftConfig
from thor_tir.sft.examples import fitting
from thor_tir.storage.journal import JsonObject, write_atomically
from thor_tir.tools.loading import load_tools


def fine_tune(
    model_name: str,
    source: SftSource,
    config: SftConfig,
    folder: Path,
    reporter: Reporter,
    *,
    reasoning: bool = False,
    calls: CallConfig = PYTHON_ALONE,
    keeps_state: bool = False,
    end_tokens: Sequence[str] = (),
    chat_template: str = "",
    ranks: Ranks = ALONE,
) -> Path:
    """Cold start from a data set; returns the folder of the trained model."""
    model, tokenizer = load_trainable(model_name, config.adapters, ranks, end_tokens, chat_template)
    dialect = sft_dialect(tokenizer, reasoning=reasoning, calls=calls, keeps_state=keeps_state)
    ranks.lead(lambda: announce(dialect, folder, reporter.say))
    data, counts = prepared(model_name, model.config, source, dialect, config, reporter.say)
    ranks.lead(lambda: write_atomically(folder / "data.json", json.dumps(counts, indent=1) + "\n"))
    steps = len(sft.batches(data.train, config))
    with reporter.stage(f"cold-start SFT on {len(data.train)} samples", steps) as progress:
        learner = sft.cold_start(model, tokenizer, data, config, folder, progress, ranks, reporter.say)
    if not ranks.is_alone:
        model, _ = load_trainable(model_name, config.adapters, ranks)
        copy_weights(learner.whole_weights(), model)
    dtype = publishing_dtype(model_name, config.save_dtype)
    return ranks.lead(lambda: publish(model, tokenizer, folder / "model", dtype=dtype, say=reporter.say))


def sft_dialect(tokenizer: ModelTokenizer, *, reasoning: bool, calls: CallConfig, keeps_state: bool) -> Dialect:
    """The conventions of the model that is trained."""
    tools, style = load_tools(calls.tool), read_prompts(calls.prompts).get(TOOLS, TOOLS)
    return dialect_of(tokenizer, style, reasoning=reasoning, calls=calls.dialect, tools=tools, keeps_state=keeps_state)


def prepared(
    model_name: str,
    architecture: Any,
    source: SftSource,
    dialect: Dialect,
    config: SftConfig,
    say: Callable[[str], None],
) -> tuple[sft.SftData, JsonObject]:
    """The rows of a cold start, those that are held out apart, and what was counted on the way.

    Raises UsageError for data that are none, and where no row is short enough.
    """
    read = read_sft_rows(source, dialect, trains_observations=config.trains_observations)
    for line in read.lines(source.data, model_name):
        say(line)
    limit, because = _longest_row(architecture, config)
    found = fitting(read.rows, limit)
    rows = found.rows
    if found.num_too_long:
        what = f"{found.num_too_long} of {len(read.rows)} samples are longer than {limit:,} tokens ({because})"
        if not rows:
            raise UsageError(f"{what}, so that nothing is left to train on; the longest has {found.longest:,}")
        say(f"{what} and are left out; the longest has {found.longest:,}")
    held_out = max(1, len(rows) // 20) if len(rows) > 40 else 0
    data = sft.SftData(train=rows[held_out:], validation=rows[:held_out])
    counts: JsonObject = {
        "samples": read.num_samples,
        "readings": read.readings,
        "unusable": read.unusable,
        "notes": read.notes,
        "encoded_anew": read.encoded_anew,
        "rows": len(read.rows),
        "too_long": found.num_too_long,
        "max_length": limit,
        "longest": found.longest,
        "trained": len(data.train),
        "validation": len(data.validation),
    }
    return data, counts


def _longest_row(architecture: Any, config: SftConfig) -> tuple[int, str]:
    """The number of tokens that a row may have, and where that comes from."""
    context = getattr(architecture, "max_position_embeddings", None) or config.max_length
    return (context, "the model's context") if context < config.max_length else (config.max_length, "--max-length")
