"""THOR from Python: a model that is loaded once, then asked, checked and trained, in a script or in a notebook.

Everything asynchronous lives in a thread with an event loop of its own, so that the same calls work in a plain script
and in Jupyter, whose own loop is always running.
"""

import asyncio
import atexit
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast, overload

from thor_tir.app.config import CallConfig, ResourceConfig
from thor_tir.dialect.dialect import DialectName
from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.execution import ExecutionResult
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.problem import Problem
from thor_tir.problems.columns import ANY_FIELDS, question_in
from thor_tir.problems.data_set import DataPlace, collected
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.rollout.sample_many import Attempt, AttemptRequest
from thor_tir.seeds import seed_of
from thor_tir.tools.loading import checked
from thor_tir.tools.protocol import Tool
from thor_tir.trajectory import Decode
from thor_tir.verdict import Outcome, Strictness, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from thor_tir.app.runtime import LoadedModel, Runtime
    from thor_tir.app.train_records import Learnable, TrainedModel
    from thor_tir.grading.grader import Grader
    from thor_tir.rl.config import RLConfig
    from thor_tir.sft.config import SftConfig

T = TypeVar("T")

Askable = str | Problem | Mapping[str, Any]
"""A question as text, a problem, or a row with a question and perhaps an answer, in columns as data sets have them."""


@dataclass(frozen=True, slots=True, repr=False)
class Attempts(Sequence[Attempt]):
    """Attempts in the order of their questions, which show themselves in a terminal and in a notebook."""

    attempts: tuple[Attempt, ...]
    """The attempts: problem, trajectory and verdict of each."""
    decode: Decode
    """Function from token ids to text, of the model that was sampled."""

    @overload
    def __getitem__(self, index: int) -> Attempt: ...

    @overload
    def __getitem__(self, index: slice) -> "Attempts": ...

    def __getitem__(self, index: int | slice) -> "Attempt | Attempts":
        """One attempt, or a part of them that can be shown as well."""
        if isinstance(index, slice):
            return replace(self, attempts=self.attempts[index])
        return self.attempts[index]

    def __len__(self) -> int:
        return len(self.attempts)

    @property
    def answers(self) -> list[str | None]:
        """The answer of each attempt; None where none was given."""
        return [attempt.verdict.extracted for attempt in self.attempts]

    @property
    def correct(self) -> list[bool | None]:
        """True for each attempt whose answer was graded correct; None where there was nothing to grade it by."""
        outcomes = [attempt.verdict.outcome for attempt in self.attempts]
        return [None if outcome is Outcome.UNSCORED else outcome is Outcome.CORRECT for outcome in outcomes]

    def __repr__(self) -> str:
        answers = ", ".join(str(answer) for answer in self.answers[:8])
        return f"<{len(self)} attempts, answers: {answers}{', ...' * (len(self) > 8)}>"

    def show(self) -> None:
        """Print the transcripts: thoughts plain, programs highlighted, outputs in panels, failures in red."""
        from rich.console import Console

        Console().print(self)

    def __rich__(self) -> "RenderableType":
        """The transcripts, for rich."""
        from rich.console import Group
        from rich.text import Text

        from thor_tir.console import visible
        from thor_tir.eval.transcript import rendered_transcript, segments_of

        parts: list[RenderableType] = []
        for attempt in self.attempts:
            outcome = attempt.verdict.outcome if attempt.problem.answer else None
            parts.append(Text(visible(attempt.problem.question.strip()), "bold"))
            segments = segments_of(attempt.trajectory, self.decode)
            parts.append(rendered_transcript(segments, answer=attempt.verdict.extracted, outcome=outcome))
        return Group(*parts)

    def _repr_html_(self) -> str:
        """The same for a notebook; text of models and programs is escaped."""
        import io

        from rich.console import Console

        console = Console(record=True, file=io.StringIO(), width=100, force_jupyter=False)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


class Thor:
    """A model with its tools. A context manager; `close` ends its processes, and so does the end of the program.

    `tools` are tools beside Python, objects as `docs/tools.md` shows one; `dialect` spells calls as --dialect says.
    `model` is a hub name, a local folder, `nano/actor` (the embedded one) or the address that serves it (`served` names
    the model, tokenizer and key there). Raises UsageError for a model that cannot be loaded, EngineFault for a server
    that does not answer, SandboxUnavailable where programs cannot be run.
    """

    def __init__(
        self,
        model: str = "nano/actor",
        *,
        served: ServedAs | None = None,
        reasoning: bool = False,
        rollout: RolloutConfig | None = None,
        correction: SelfCorrectionConfig | None = None,
        resources: ResourceConfig | None = None,
        tools: Sequence[Tool] = (),
        dialect: DialectName | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.reasoning = reasoning
        self.limits = rollout or RolloutConfig(temperature=0.6, top_k=50)
        self.correction = correction or SelfCorrectionConfig()
        self.tools = tuple(checked(tool, type(tool).__name__) for tool in tools)
        self.dialect: DialectName = dialect or ("tool-call" if tools else "fences")
        self.seed = seed
        self._host = _Host(lambda: self._open(served or ServedAs(), resources or ResourceConfig()))

    def rollout(
        self, questions: Askable | Iterable[Askable], *, tools: bool = True, correct: bool = True, samples: int = 1
    ) -> Attempts:
        """Answer questions, `samples` times each, all at once.

        `tools=False` answers without programs; `correct` repairs failed calls (paper, section 2.4). Answers are graded
        where a question brings one. The same seed and questions give the same seeds to the same attempts.
        Raises UsageError without a question, and faults of the machine (SandboxUnavailable, EngineFault).
        """
        problems = [_problem(question) for question in _listed(questions)]
        if not problems or samples < 1:
            raise UsageError("a rollout needs at least one question and one sample of it")
        return self._host.run(lambda opened: self._sample(opened, problems, tools, correct, samples))

    def choose(
        self, attempts: Sequence[Attempt], select: str = "pass-rate", *, rewards: RewardOptions | None = None
    ) -> Attempts:
        """Take one of the attempts at each question by a selector (`docs/selectors.md`), in the order of the questions.

        Raises UsageError for a selector that cannot be had, and faults of the machine where it asks a model.
        """
        return self._host.run(lambda opened: self._choose(opened, attempts, select, rewards or RewardOptions()))

    def grade(self, answer: str, reference: str, *, lenient: bool = False) -> Verdict:
        """Compare a final answer with a reference, as a reward would (`lenient`: as an evaluation may)."""
        return self._host.run(
            lambda opened: (opened.lenient if lenient else opened.runtime.grader).grade_answer(reference, answer)
        )

    def run_code(self, code: str) -> ExecutionResult:
        """Run a program in the sandbox. Raises SandboxUnavailable when the machine, not the program, is at fault."""
        return self._host.run(lambda opened: opened.runtime.sandbox.run(code))

    def train(
        self,
        records: "str | Attempt | Iterable[Learnable | Askable]",
        config: "SftConfig | RLConfig",
        output: str | Path,
    ) -> "TrainedModel":
        """Train the model and leave a run in the folder `output`; this Thor goes on with the old weights.

        `SftConfig` is the cold start: on attempts, token for token, on rows with conversations in the usual shapes
        (docs/sft_data.md), or on a data set by its name. `RLConfig` is hierarchical RL on questions with answers. The
        same call continues a run that was stopped. Raises UsageError for a model behind an address, for nothing to
        train on, and where the folder holds another run.
        """
        from thor_tir.app import train_records
        from thor_tir.console import ConsoleReporter
        from thor_tir.rl.config import RLConfig
        from thor_tir.view.export import leave_page

        trainee = train_records.Trainee(
            model=self.model, reasoning=self.reasoning, calls=CallConfig(dialect=self.dialect)
        )
        folder, reporter = Path(output), ConsoleReporter()
        given = [records] if isinstance(records, Attempt | Mapping) else records
        if not isinstance(config, RLConfig):
            data = given if isinstance(given, str) else cast("list[Learnable]", list(given))
            trained = train_records.fine_tune_on(data, trainee, config, folder, reporter)
            reporter.say(f"report: {leave_page(folder)}")
            return trained
        problems = [_problem(record) for record in cast("Iterable[Askable]", given)]
        trained = self._host.run(
            lambda opened: train_records.reinforce_on(problems, trainee, config, folder, opened.runtime, reporter)
        )
        reporter.say(f"report: {leave_page(folder)}")
        return trained

    def close(self) -> None:
        """Give back the model, the sandbox and the grader."""
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Thor({self.model!r})"

    @asynccontextmanager
    async def _open(self, served: ServedAs, resources: ResourceConfig) -> "AsyncIterator[_Opened]":
        from thor_tir.app.runtime import open_runtime
        from thor_tir.grading.grader import Grader

        async with (
            open_runtime(resources, calls=CallConfig(dialect=self.dialect), tools=self.tools) as runtime,
            runtime.load(self.model, served, _Warnings(), thinks=self.reasoning) as loaded,
            Grader(strictness=Strictness.LENIENT) as lenient,
        ):
            yield _Opened(runtime=runtime, loaded=loaded, lenient=lenient)

    async def _sample(
        self, opened: "_Opened", problems: Sequence[Problem], tools: bool, correct: bool, samples: int
    ) -> Attempts:
        from thor_tir.rollout.sample_many import attempt

        runtime, loaded = opened.runtime, opened.loaded
        dialect = runtime.dialect(loaded.tokenizer, TOOLS if tools else NO_TOOLS, reasoning=self.reasoning)
        limits = self.limits if tools else replace(self.limits, max_tool_calling_iterations=0)
        setup = runtime.setup(loaded.policy, dialect, limits)
        if tools and correct:
            setup = replace(setup, repair=self_correction(setup.agent, limits, self.correction))
        requests = [
            AttemptRequest(id=f"{problem.id}/{k}", problem=problem, seed=seed_of(self.seed, problem.id, k))
            for problem in problems
            for k in range(samples)
        ]
        made = await asyncio.gather(*(attempt(request, setup) for request in requests))
        return Attempts(attempts=tuple(made), decode=dialect.decode)

    async def _choose(
        self, opened: "_Opened", attempts: Sequence[Attempt], select: str, rewards: RewardOptions
    ) -> Attempts:
        from thor_tir.inference.asking import AskingSetup, open_chooser
        from thor_tir.inference.best_of_n import usable

        runtime, loaded = opened.runtime, opened.loaded
        dialect = runtime.dialect(loaded.tokenizer, TOOLS, reasoning=self.reasoning)
        agent = runtime.setup(loaded.policy, dialect, self.limits).agent
        groups: dict[str, list[Attempt]] = {}
        for each in attempts:
            groups.setdefault(each.problem.id, []).append(each)
        setup = AskingSetup(agent=agent, config=self.limits, tokenizer=loaded.tokenizer, rewards=rewards)
        async with open_chooser(usable(select), setup) as chooser:
            made = await asyncio.gather(
                *(
                    chooser.choose(group[0].problem.question, group, seed=seed_of(self.seed, id))
                    for id, group in groups.items()
                )
            )
        return Attempts(attempts=tuple(choice.chosen for choice, _ in made), decode=dialect.decode)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """Everything that is open while a `Thor` is."""

    runtime: "Runtime"
    """Sandbox and strict grader."""
    loaded: "LoadedModel"
    """Policy and tokenizer."""
    lenient: "Grader"
    """Grader that reads as an evaluation does."""


class _Host:
    """A thread with an event loop, in which what was opened stays open; the first call opens it."""

    def __init__(self, open_: Callable[[], AbstractAsyncContextManager[_Opened]]) -> None:
        self._open = open_
        self._opened: Future[_Opened] = Future()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="thor", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._thread.join()
            raise
        atexit.register(self.close)

    def run(self, work: Callable[[_Opened], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine that runs in the thread. An interrupt cancels it. Raises UsageError when closed."""
        if not self._thread.is_alive():
            raise UsageError("this Thor is closed; make a new one")
        future = asyncio.run_coroutine_threadsafe(work(self._opened.result()), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Close what is open, and end the thread. Closing again does nothing."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def _live(self) -> None:
        try:
            self._loop.run_until_complete(self._stay_open())
        except BaseException as error:
            if self._opened.done():  # closing failed: no caller waits for it any more
                raise
            self._opened.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())  # closing it would not wait for it
            self._loop.close()

    async def _stay_open(self) -> None:
        async with self._open() as opened:
            self._opened.set_result(opened)
            await self._end.wait()


class _Warnings:
    """A reporter that says nothing of progress, and what a person must know as a Python warning."""

    def stage(self, title: str, total: int) -> NoReturn:
        """No stage of a run is begun from here."""
        raise NotImplementedError(title)

    def say(self, text: str) -> None:
        """One line."""
        warnings.warn(text, stacklevel=2)


def _listed(questions: Askable | Iterable[Askable]) -> list[Askable]:
    if isinstance(questions, str | Problem | Mapping):
        return [questions]
    return list(questions)


def _problem(question: Askable) -> Problem:
    """The problem that a question stands for. Raises UsageError for a row without one."""
    if isinstance(question, Problem):
        return question
    row = {"question": question} if isinstance(question, str) else question
    if question_in(row) is None:
        raise UsageError(f"a question is text, a Problem or a row with `question` and `answer`; found {question!r}")
    place = DataPlace(name="python", is_local=False)
    return collected(iter([("the row", {"answer": "", **row})]), ANY_FIELDS, place=place).problems[0]
