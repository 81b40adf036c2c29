"""Further selectors on the stored attempts of an evaluation: nothing is sampled again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields

from thor_tir.address import is_address
from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.app.runtime import open_runtime
from thor_tir.app.stages.opinions import OpinionPlace, ask_opinions, asked_with
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_tokenizer
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.inference.asking import AskingSetup
from thor_tir.inference.best_of_n import ASKED
from thor_tir.pretrained import weights_digest
from thor_tir.progress import Reporter
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.storage.journal import WHOLE


async def compare_more(
    folder: EvalFolder, names: Sequence[str], rewards: RewardOptions, resources: ResourceConfig, reporter: Reporter
) -> None:
    """Compare further selectors on a finished evaluation, and ask for what they need and nobody asked yet.

    The evaluation's own model is loaded only where it is asked. Raises UsageError for an unfinished evaluation.
    """
    if missing := sum(map(folder.num_missing, folder.sets)):
        raise UsageError(f"{folder.path} lacks {missing} attempts; finish it first")
    asks = asked_with(names, rewards)
    with folder.writing(WHOLE):
        folder.compare_selectors(names, asks)
        if not asks:
            return
        place = OpinionPlace(folder=folder, shard=WHOLE, concurrency=resources.concurrency)
        async with _asking(folder, list(asks), rewards, resources, reporter) as asking:
            for asked in folder.sets:
                await ask_opinions(place, asked, list(asks), asking, reporter)


@asynccontextmanager
async def _asking(
    folder: EvalFolder, asks: Sequence[str], rewards: RewardOptions, resources: ResourceConfig, reporter: Reporter
) -> AsyncIterator[AskingSetup]:
    """The parts that asking needs: the model that wrote the attempts, or its tokenizer for reward models alone.

    Raises UsageError where the model is not what it was.
    """
    known = folder.manifest
    config, name = sampled_with(folder), known["model"]
    if not any(each in ASKED for each in asks):
        is_local = any(not is_address(each.partition(":")[2]) for each in asks)
        tokenizer = load_tokenizer(name) if is_local and not is_address(name) else None
        yield AskingSetup(agent=None, config=config, tokenizer=tokenizer, rewards=rewards, say=reporter.say)
        return
    served = ServedAs(**(known["served"] or {}))
    calls = CallConfig(dialect=(known.get("calls") or {}).get("dialect", "fences"))
    async with open_runtime(resources, calls=calls) as runtime, runtime.load(name, served, reporter) as loaded:
        if loaded.model is not None and weights_digest(loaded.model) != known["weights_sha256"]:
            raise UsageError(f"{name} is not the model that wrote these attempts; evaluate it into another folder")
        dialect = runtime.dialect(loaded.tokenizer, TOOLS, reasoning=known["reasoning"])
        agent = runtime.setup(loaded.policy, dialect, config).agent
        yield AskingSetup(agent=agent, config=config, tokenizer=loaded.tokenizer, rewards=rewards, say=reporter.say)


def sampled_with(folder: EvalFolder) -> RolloutConfig:
    """Limits and sampling of an evaluation's attempts, as far as this version knows its options."""
    stored = folder.manifest["rollout"]
    known = {each.name for each in fields(RolloutConfig)}
    plain = {name: value for name, value in stored.items() if name in known and not isinstance(value, dict | list)}
    return RolloutConfig(**plain)
