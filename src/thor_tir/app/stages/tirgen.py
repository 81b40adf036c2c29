"""TIRGen as a stage of a run: raw trajectories of an actor and a critic, and what the actor solves without tools.

The rows of `raw.jsonl` are all that later stages need: problem, trajectory, verdict, seed, and each step's fate.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from thor_tir.app.config import RunConfig
from thor_tir.app.reference_report import report_problems, say_unread
from thor_tir.app.runtime import LoadedModel, Runtime, announce, dialect_of, without_tools
from thor_tir.app.stages.tirgen_data import benchmark_questions, filter_raw
from thor_tir.dialect.dialect import Dialect, thinking_of
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS
from thor_tir.engines.local.step_barrier import StepBarrier
from thor_tir.engines.model_record import ModelRecord, unite_parts
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.data_set import DataSet
from thor_tir.problems.sources import Split, load_problems
from thor_tir.progress import Reporter
from thor_tir.provenance import versions
from thor_tir.rollout.sample_many import (
    DROPPED,
    Attempt,
    AttemptRequest,
    SamplingSetup,
    attempt,
    attempt_to_json,
    record_all,
)
from thor_tir.seeds import seed_for, seed_of
from thor_tir.storage.journal import WHOLE, Journal, JsonObject, Shard
from thor_tir.tirgen.critic import Critic
from thor_tir.tirgen.generate import StepForm, TirgenAgents, generate, reason
from thor_tir.tirgen.raw_rows import PROVENANCE, prompt_digest, sign
from thor_tir.tirgen.reasoning_actor import think
from thor_tir.tirgen.schedule import AttemptKey, AttemptSchedule, ProgressLine, brief

MODELS = "models"
"""Name of the record of actor and critic."""


async def generate_data(config: RunConfig, folder: Path, runtime: Runtime, reporter: Reporter) -> Path:
    """TIRGen and its filter: what `generate_raw` and `filter_raw` write; the data set's path is returned.

    Of several processes each makes one shard.
    """
    ranks = runtime.ranks
    alone = Runtime(runtime.resources, runtime.sandbox, runtime.grader)
    await generate_raw(config, folder, alone, reporter, Shard(index=ranks.rank + 1, count=ranks.size))
    ranks.wait()

    def united() -> Path:
        unite_parts(folder, MODELS)
        return filter_raw([folder], config.filter, folder, seed=config.seed)

    return ranks.lead(united)


def tirgen_problems(config: RunConfig) -> DataSet:
    """The questions that TIRGen is run on."""
    return load_problems(
        config.problems,
        split=Split.TRAIN,
        count=config.num_tirgen,
        seed=seed_for("tirgen", config.seed),
        configs=config.families,
        fields=config.fields,
        choice=config.choice,
    )


async def generate_raw(
    config: RunConfig, folder: Path, runtime: Runtime, reporter: Reporter, shard: Shard = WHOLE
) -> None:
    """Write or continue `raw.jsonl` and `no_tools.jsonl`, or those of one shard.

    `models.json` then says how the models were reached and what they cost, in all calls.
    """
    check_tirgen(config)
    everything = tirgen_problems(config)
    problems = [p for position, p in enumerate(everything.problems) if shard.owns(position)]
    barrier = StepBarrier()
    with shard.writing(folder):
        shard.check_division(folder, "raw")
        of_critic = partial(
            runtime.load,
            *(config.critic, config.critic_served),
            end_tokens=(),
            chat_template="",
            engine_options=engine_of_critic(runtime.resources.engine),
        )
        async with (
            runtime.load(config.actor, config.actor_served, reporter, barrier, thinks=config.reasoning) as actor,
            of_critic(reporter, barrier) as critic,
        ):
            report_problems(everything, config.problems, reporter.say, folder)
            record = ModelRecord(shard.file(folder, MODELS).with_suffix(".json"))
            record.begin()
            try:
                maker = _maker(config, folder, runtime, actor, critic, reporter.say)
                say_unread(problems, maker.agents.dialect, reporter.say)
                raw = runtime.journal(shard.file(folder, "raw"), brief)
                await _attempt(problems, maker, raw, reporter)
                no_tools = runtime.journal(shard.file(folder, "no_tools"), brief)
                promising = [p for p in problems if _is_promising(p, raw, config)]
                await _answer_without_tools(promising, maker, no_tools, reporter)
            finally:
                record.end({"actor": dict(actor.about()), "critic": dict(critic.about())})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Everything that raw rows are made with."""

    config: RunConfig
    """Configuration of the run."""
    agents: TirgenAgents
    """Actor, critic and sandbox."""
    form: StepForm
    """Algorithm that makes a trajectory: for a plain actor, or for one that thinks."""
    setup: SamplingSetup
    """Set-up of the attempts, for grading and concurrency."""
    signed: str
    """Name of the run's provenance."""

    async def __call__(self, wanted: AttemptKey) -> JsonObject:
        """One raw row."""
        problem, seed = wanted.problem, _seed(self.config, wanted)
        sample = await generate(problem, self.agents, self.config.tirgen, id=wanted.key, seed=seed, form=self.form)
        verdict = await self.setup.grade(problem, self.setup.graded(sample.trajectory))
        attempt = Attempt(problem=problem, trajectory=sample.trajectory, verdict=verdict)
        return {
            **attempt_to_json(attempt),
            "critic": dict(sample.critic),
            "kept": [round(share, 4) for share in sample.kept],
            "replaced": [asdict(words) for words in sample.replaced],
            "spent": sample.spent.to_json(),
            "seconds": round(sample.seconds, 3),
            "seed": seed,
            "problem": asdict(problem),
            "provenance": self.signed,
        }


def check_tirgen(config: RunConfig) -> None:
    """Raise UsageError, before anything is sampled, for benchmarks of the filter that hold no question."""
    benchmark_questions(config.filter.benchmarks)


def check_spelling(dialect: Dialect) -> None:
    """Raise UsageError for a dialect in which a reasoning actor could not write programs."""
    if dialect.config.is_reasoning and not dialect.is_fenced:
        raise UsageError(
            "a reasoning actor's programs stand within its thoughts, where a call cannot end the turn: TIRGen writes "
            "them between fences (--dialect fences)"
        )


def engine_of_critic(engine: EngineOptions) -> EngineOptions:
    """The engine of the critic: that of the actor, or servers of its own."""
    return engine.of_critic if engine.critic_address else engine


def _maker(
    config: RunConfig,
    folder: Path,
    runtime: Runtime,
    actor: LoadedModel,
    critic: LoadedModel,
    say: Callable[[str], None],
) -> _Maker:
    dialect = runtime.dialect(actor.tokenizer, NO_TOOLS, reasoning=config.reasoning, observation=config.observation)
    check_spelling(dialect)
    announce(dialect, folder, say)
    critics = runtime.dialect if config.calls.tool else dialect_of  # who writes programs alone writes them in fences
    of_critic = critics(critic.tokenizer, runtime.prompts.get(CRITIC, CRITIC))
    rewriter = Critic(policy=critic.policy, dialect=of_critic, config=config.tirgen.critic)
    return _Maker(
        config=config,
        agents=TirgenAgents(
            actor=actor.policy, dialect=dialect, critic=rewriter, sandbox=runtime.sandbox, tools=runtime.tools
        ),
        form=think if config.reasoning else reason,
        setup=runtime.setup(actor.policy, dialect, without_tools(config.tirgen.max_completion_length)),
        signed=sign(folder / PROVENANCE, provenance_of(config, dialect)),
    )


def _seed(config: RunConfig, wanted: AttemptKey) -> int:
    """Seed of one attempt, whatever shard or batch it is made in."""
    first = (config.seed, "tirgen", wanted.problem.id)
    return seed_of(*first, wanted.number) if wanted.number else seed_of(*first)


async def _attempt(problems: Sequence[Problem], maker: _Maker, raw: Journal, reporter: Reporter) -> None:
    schedule = AttemptSchedule(problems, raw, maker.config.schedule)
    board = ProgressLine(schedule)
    with reporter.stage("TIRGen: actor, critic, sandbox", len(problems)) as progress:
        progress.resume(schedule.num_done_before)

        def note(key: str, row: JsonObject) -> None:
            board.add(row)
            progress.note(board.line())

        await schedule.run(maker, concurrency=maker.setup.concurrency, made=note, done=progress.advance)
    if board.attempts:
        reporter.say(board.line())
    made = [journalled for p in problems for journalled in _rows_of(p, raw, maker.config)]
    _say_lost("attempts", len(made), Counter(row[DROPPED] for row in made if DROPPED in row), reporter)
    if full := sum(row.get("wrote_nothing", False) for row in made):
        reporter.say(f"{full} of {len(made)} attempts wrote nothing: their prompts fill the actor's context")
    if schedule.ended_by is not None:
        reporter.say(f"the budget of {schedule.ended_by} is used up; with a larger one the same command continues")


def provenance_of(config: RunConfig, dialect: Dialect) -> JsonObject:
    """Facts that all raw rows of this run have in common."""
    own = read_prompts(config.calls.prompts)
    return {
        "actor": config.actor,
        "critic": config.critic,
        "served_as": [config.actor_served.model, config.critic_served.model],
        "prompts": {
            "actor": prompt_digest(own.get(NO_TOOLS, NO_TOOLS)),
            "critic": prompt_digest(own.get(CRITIC, CRITIC)),
        },
        "thinking": thinking_of(dialect).value,
        "observation": asdict(config.observation),
        **({} if dialect.config.calls == "fences" else {"calls": dialect.about}),
        "problems": config.problems,
        "seed": config.seed,
        "tirgen": asdict(config.tirgen),
        "versions": versions(),
    }


def _is_promising(problem: Problem, raw: Journal, config: RunConfig) -> bool:
    """True where an attempt with a program is right: only then does it matter whether tools are needed."""
    return any(row.get("is_promising", False) for row in _rows_of(problem, raw, config))


def _rows_of(problem: Problem, raw: Journal, config: RunConfig) -> list[JsonObject]:
    """Rows of the attempts at a problem, as the journal keeps them in memory, by whatever process they were made."""
    keys = (AttemptKey(problem=problem, number=number).key for number in range(config.schedule.attempts))
    return [raw[key] for key in keys if key in raw]


def _say_lost(what: str, number: int, faults: Counter[str], reporter: Reporter) -> None:
    """Say how many units faults of the machine ended; they stay lost when the run is continued."""
    if faults:
        named = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
        reporter.say(f"{faults.total()} of {number} {what} are lost to faults of the machine: {named}")


async def _answer_without_tools(
    problems: Sequence[Problem], maker: _Maker, journal: Journal, reporter: Reporter
) -> None:
    """Samples without tools of each question."""
    samples = range(maker.config.no_tools_samples)

    async def one(problem: Problem, sample: int) -> JsonObject:
        seed = seed_of(maker.config.seed, "words", problem.id, sample)
        request = AttemptRequest(id=f"{problem.id}/no-tools{sample}", problem=problem, seed=seed)
        return attempt_to_json(await attempt(request, maker.setup))

    with reporter.stage("TIRGen: answers without tools", len(problems) * len(samples)) as progress:
        units = {f"{p.id}/no-tools{k}": partial(one, p, k) for p in problems for k in samples}
        faults = await record_all(units, maker.setup, journal, progress)
    _say_lost("samples without tools", len(units), faults, reporter)
