"""Commands that look after data sets."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from thor_tir.app.config import CallConfig, EndTokens, SandboxState
from thor_tir.commands.options import NANO
from thor_tir.console import ConsoleReporter
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields

if TYPE_CHECKING:
    from thor_tir.problem import Problem
    from thor_tir.problems.data_set import DataSet


@dataclass(frozen=True, kw_only=True)
class DataGet:
    """Put registered benchmarks into the folder that --data takes: fetched from the hub, their digests checked.

    What lies there already is checked as well. Without a hub it says which file to put where. Without a name it lists
    the sets.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of benchmarks, such as math500 aime24; `six` are the paper's six of mathematics."""
    output: Path = Path("data/benchmarks")
    """Folder of the files."""
    accept_modified: bool = False
    """True takes data that are not the registered ones; evaluations then need --accept-modified as well."""

    def run(self) -> None:
        """Fetch, check, and say what was found."""
        from thor_tir.console import text_table
        from thor_tir.errors import UsageError
        from thor_tir.problems.benchmark_files import get_benchmark, known_sets
        from thor_tir.problems.benchmarks import SIX_SETS

        reporter = ConsoleReporter()
        if not self.names:
            columns = ("name", "problems", "files", "on the hub", "licence")
            reporter.show(text_table("Benchmarks: thor data get NAME", columns, known_sets()))
            return
        wanted = [each for name in self.names for each in (SIX_SETS if name == "six" else (name,))]
        missing = []
        for name in wanted:
            try:
                found = get_benchmark(name, self.output, accept_modified=self.accept_modified)
            except UsageError as error:
                if len(wanted) == 1:
                    raise
                reporter.say(f"{name}: {error}")
                missing.append(name)
                continue
            files = ", ".join(map(str, found.paths))
            how = "fetched" if found.is_new else "there already"
            proof = "; ".join(found.notes) or f"the registered set, SHA-256 {found.sha256[:12]}..."
            reporter.say(f"{name}: {files}, {how}: {found.size} problems, {proof}")
        if missing:
            raise UsageError(f"{len(missing)} of {len(wanted)} sets could not be had: {', '.join(missing)}")
        reporter.say(f"use: thor eval --problems {','.join(wanted)} --data {self.output}")


@dataclass(frozen=True, kw_only=True)
class DataOverlap:
    """Find training problems that also occur in benchmarks: the same text, or runs of the same words.

    Prints the ids to drop, unless they go to a report; a paraphrase passes unseen.
    """

    problems: Path
    """File of training problems, of any form that --problems takes elsewhere."""
    benchmarks: tuple[Path, ...]
    """Files of benchmarks in any of these forms, or folders of them."""
    ngram: int = 13
    """Words in a row that count as copying; 8 finds more, and more siblings of one template."""
    share: float = 0.2
    """Share of the shorter question's runs that must be common, at least; 0 counts a single run, stock phrases too."""
    output: Path | None = None
    """JSON file of the report: for each id to drop, the benchmark problems it equals or shares a run with."""

    def run(self) -> None:
        """Compare and report."""
        from thor_tir.errors import UsageError
        from thor_tir.problems.overlap import overlaps, question_files, read_questions
        from thor_tir.storage.journal import check_place, write_atomically

        if self.ngram < 1 or not 0 <= self.share <= 1:
            raise UsageError(f"--ngram {self.ngram} must be at least 1 and --share {self.share} between 0 and 1")
        reporter = ConsoleReporter()
        if self.output is not None:
            check_place(self.output, besides=[self.problems, *self.benchmarks])
        train = read_questions(self.problems)
        if not train:
            raise UsageError(f"{self.problems} holds no problems; expected rows with question, problem or prompt")
        named = [file for path in self.benchmarks for file in question_files(path)]
        files = [file for file in named if file.resolve() != self.problems.resolve()]
        benchmark = [problem for file in files for problem in read_questions(file)]
        if not benchmark:
            raise UsageError(
                f"no benchmark problems at {', '.join(map(str, self.benchmarks))}; expected files other than "
                "that of --problems"
            )
        found = overlaps(train, benchmark, ngram=self.ngram, share=self.share)
        exact = sum(bool(overlap.exact) for overlap in found)
        reporter.say(
            f"{len(train)} training problems against {len(benchmark)} of {len(files)} benchmark files: {len(found)} "
            f"to drop, {exact} for equal text and {len(found) - exact} for runs of {self.ngram} words"
        )
        if self.output is None:
            for overlap in found:
                reporter.say(f"{overlap.train_id}\t{', '.join([*overlap.exact, *overlap.shared])}")
            return
        rows = {overlap.train_id: asdict(overlap) for overlap in found}
        write_atomically(
            self.output, json.dumps({"ngram": self.ngram, "drop": rows}, indent=1, ensure_ascii=False) + "\n"
        )
        reporter.say(f"report: {self.output}")


@dataclass(frozen=True, kw_only=True)
class DataShowPrompt:
    """Print exactly what a model will read of some problems, with and without tools: the text, and the token ids.

    Takes the options of the run that they are meant for. The weights are not loaded.
    """

    model: str = NANO.actor
    """Hub name or local folder of the model, or of the tokenizer of one behind an address."""
    problems: str = NANO.problems
    """Data set of one's own, or reasoning_gym:family,family, as other commands take it."""
    fields: Annotated[ProblemFields, tyro.conf.arg(name="")] = ANY_FIELDS
    """Columns of a data set of one's own."""
    first: int = 2
    """Number of problems, the first ones."""
    styles: tuple[Literal["tools", "no-tools", "critic", "code", "code-tools"], ...] = ("tools", "no-tools")
    """Prompts that are shown; the critic's is asked a step of reasoning instead of the question."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, the spelling of calls, and prompts of one's own."""
    state: Annotated[SandboxState, tyro.conf.arg(name="sandbox.state")] = "program"
    """Life of the names that a program defines, of which the rules speak."""
    end_token: EndTokens = ()
    """Token that ends the model's turn beside those that it names itself; may be given several times."""
    chat_template: str = ""
    """Chat template for a model that has none, or in place of its own: a Jinja file, or chatml, llama3, gemma, mistral
    or plain."""

    def run(self) -> None:
        """Read, render, print."""
        from thor_tir.errors import UsageError

        if self.first < 1:
            raise UsageError(f"--first is {self.first}; at least one problem is needed")
        reporter, found = ConsoleReporter(), self._found()
        for sentence in filter(None, (found.taken, *found.left_out)):
            reporter.say(f"{self.problems}: {sentence}")
        for block in self._blocks(found.problems, reporter.say):
            reporter.say(block)

    def _found(self) -> "DataSet":
        from thor_tir.problems.sources import ProblemChoice, load_problems

        choice = ProblemChoice(first=self.first)
        return load_problems(self.problems, configs=NANO.families, fields=self.fields, choice=choice)

    def _blocks(self, problems: "tuple[Problem, ...]", say: Callable[[str], None]) -> Iterator[str]:
        """Texts that are printed, one of each problem under each prompt."""
        from thor_tir.app.reference_report import say_unread
        from thor_tir.app.runtime import dialect_of
        from thor_tir.dialect.prompt_file import STYLES, read_prompts
        from thor_tir.engines.loading import load_tokenizer
        from thor_tir.tools.loading import load_tools

        tokenizer = load_tokenizer(self.model, self.end_token, self.chat_template)
        own, tools = read_prompts(self.calls.prompts), load_tools(self.calls.tool)
        for name in self.styles:
            style = own.get(STYLES[name], STYLES[name])
            dialect = dialect_of(
                tokenizer,
                style,
                reasoning=self.reasoning,
                calls=self.calls.dialect,
                tools=tools,
                keeps_state=self.state == "trajectory",
            )
            say_unread(problems, dialect, say)
            for problem in problems:
                ids = dialect.prompt(problem.question, problem.system).token_ids
                text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                yield f"--- {problem.id}, {name}: {len(ids)} tokens\n{text}\n--- ids: {' '.join(map(str, ids))}\n"
