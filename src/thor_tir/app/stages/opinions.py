"""Opinions that selectors ask for, once for each problem of an evaluation, kept beside its attempts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from thor_tir.address import is_address
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.engines.reward_model import REWARD_FILE, reward_folder
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder, is_asked_about
from thor_tir.inference.asking import AskingSetup, open_asker, timed
from thor_tir.inference.best_of_n import selector
from thor_tir.inference.opinions import Asker
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.progress import Reporter
from thor_tir.provenance import file_digest
from thor_tir.rollout.sample_many import Attempt, ChainEvents, KeyedUnit, lost, record_chains
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import Journal, JsonObject, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionPlace:
    """Place that opinions are kept in."""

    folder: EvalFolder
    """Evaluation whose attempts are judged."""
    shard: Shard
    """Part of the problems that this process asks about."""
    concurrency: int
    """Problems that are asked about at once."""
    hold: bool = False
    """True keeps opinions chunk by chunk, for runs whose bits must not depend on a kill."""


def asked_with(names: Sequence[str], rewards: RewardOptions) -> dict[str, JsonObject]:
    """The opinions that these selectors ask for, each once, with all that decides the answers besides the attempts.

    Raises UsageError for a reward model that is not there, and for the name of one that nothing asks.
    """
    asks = dict.fromkeys(asks for name in names if (asks := selector(name).asks))
    if rewards.model and not any(is_address(each.partition(":")[2]) for each in asks):
        raise UsageError(
            f"--rewards.model {rewards.model} is a model on a reward model's server, and no selector asks one: add "
            "--select reward:http://HOST:PORT, or leave it out"
        )
    return {each: _about(each, rewards) for each in asks}


def _about(asks: str, rewards: RewardOptions) -> JsonObject:
    place = asks.partition(":")[2]
    if not place:
        return {"version": 1}
    if is_address(place):
        return {"model": rewards.model, "step_tag": rewards.step_tag}
    return {file.name: file_digest(file) for file in sorted(reward_folder(place).glob("*.safetensors"))}


async def ask_opinions(
    place: OpinionPlace, asked: ProblemSet, asks: Sequence[str], asking: AskingSetup, reporter: Reporter
) -> None:
    """Ask everything that is not on disk yet about this shard's problems of a set."""
    for each in asks:
        if not is_asked_about(each, asked.kind):
            continue
        if told := trained_on(each, asked):
            reporter.say(told)
        async with open_asker(each, asking) as asker:
            await _ask(place, asked, each, asker, reporter)


def trained_on(asks: str, asked: ProblemSet) -> str:
    """A sentence about problems of a set that a reward model of ours was trained on; empty where there are none."""
    path = Path(asks.partition(":")[2]).expanduser() / REWARD_FILE
    if not path.is_file():
        return ""
    known = set(json.loads(path.read_text(encoding="utf-8"))["problems"])
    num = sum(problem.id in known for problem in asked.problems)
    return f"{asked.title}: {num} of {len(asked.problems)} problems were trained on by {asks}" if num else ""


async def _ask(place: OpinionPlace, asked: ProblemSet, asks: str, asker: Asker, reporter: Reporter) -> None:
    folder = place.folder
    part, seed = folder.opinions_part(asks), folder.manifest["seed"]
    path = place.shard.file(folder.path / part, asked.name)
    elsewhere = folder.rows(asked.name, besides=path, part=part)
    journal = Journal(path, hold=place.hold)
    groups = [group for n, group in enumerate(folder.evaluation(asked).groups) if group and place.shard.owns(n)]
    todo = [
        [KeyedUnit(key=id, make=partial(_row, asker, group, seed_of(seed, id, asks)))]
        for group in groups
        if (id := group[0].problem.id) not in elsewhere
    ]
    with reporter.stage(f"{asked.title}: {asks}", len(groups)) as progress:
        progress.advance(len(groups) - len(todo))
        events = ChainEvents(ended=lambda chain: progress.advance())
        await record_chains(todo, journal, events, concurrency=place.concurrency)
    if dropped := lost(journal, (unit.key for chain in todo for unit in chain)):
        reporter.say(f"{asked.title}, {asks}: {dropped.total()} problems were lost to faults of the machine")


async def _row(asker: Asker, candidates: Sequence[Attempt], seed: int) -> JsonObject:
    """The row of one problem."""
    problem = candidates[0].problem
    opinion = await timed(asker, problem.question, candidates, seed=seed)
    row: Mapping[str, object] = asdict(opinion)
    return {"problem_id": problem.id, **row}
