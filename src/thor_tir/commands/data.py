"""Commands that look after data sets."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from thor_tir.console import ConsoleReporter


@dataclass(frozen=True, kw_only=True)
class DataOverlap:
    """Find training problems that also occur in benchmarks: the same text, or runs of the same words.

    Prints the ids to drop, unless they go to a report; a paraphrase passes unseen.
    """

    problems: Path
    """JSONL of training problems with question or problem on each line."""
    benchmarks: tuple[Path, ...]
    """JSONL files of benchmarks, or folders of them; lines hold question, problem or prompt."""
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
            raise UsageError(f"{self.problems} holds no problems; expected JSONL with question or problem on each line")
        named = [file for path in self.benchmarks for file in question_files(path)]
        files = [file for file in named if file.resolve() != self.problems.resolve()]
        benchmark = [problem for file in files for problem in read_questions(file)]
        if not benchmark:
            raise UsageError(
                f"no benchmark problems at {', '.join(map(str, self.benchmarks))}; expected JSONL files other than "
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
