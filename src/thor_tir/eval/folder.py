"""The attempts of an evaluation, in memory and in its folder, with the problems that were asked and who may write.

    config.json             the options of the run          manifest.json   everything needed to repeat it
    problems/<set>.jsonl    the problems that were asked    results.*       written when every attempt is there
    attempts/<set>.jsonl    one line an attempt             attempts/<set>.2-of-4.jsonl  the same by one shard
    selectors.json          selectors that are compared     opinions/<asked>/<set>.jsonl one line a problem

Any number of processes may fill one folder, each its own shard; what counts is the union of the files.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import UsageError
from thor_tir.eval.results import Manifest
from thor_tir.inference.best_of_n import ASKED, Opinions, choose, is_built_in, selector
from thor_tir.problem import digest, write_problems
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.problems.data_set import read_problems
from thor_tir.rollout.sample_many import DROPPED, Attempt, attempt_from_json
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import Journal, JsonObject, Parse, RowsOfFiles, Shard, write_atomically
from thor_tir.storage.shared_journal import open_shared
from thor_tir.storage.trajectory_json import counted_row
from thor_tir.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Attempts of one configuration, grouped by problem in the order of the problems."""

    name: str
    """Name of the configuration or of the problem set."""
    groups: tuple[tuple[Attempt, ...], ...]
    """Attempts at each problem; empty where machine faults ended all."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Attempts that a fault of the machine ended, by the fault's name; they are in no group."""
    seconds: Sequence[float] = ()
    """Wall-clock times of the attempts, as far as their rows say them."""

    @property
    def attempts(self) -> list[Attempt]:
        """All of them."""
        return [attempt for group in self.groups for attempt in group]

    @property
    def accuracy_P(self) -> list[float]:
        """Share of right attempts per problem; NaN where none was scored."""
        return [_accuracy(group) for group in self.groups]


def best_of(evaluation: Evaluation, select_by: str, *, seed: int, opinions: Opinions | None = None) -> Evaluation:
    """One attempt per problem, chosen among all of them by the selector of that name and what it asked for."""
    by = selector(select_by)
    chosen = tuple(
        (choose(group, by, seed=seed_of(seed, group[0].problem.id), opinions=opinions).chosen,) if group else ()
        for group in evaluation.groups
    )
    return replace(evaluation, groups=chosen)


def is_asked_about(asks: str, kind: ProblemKind) -> bool:
    """True where problems of a kind can be asked about: programs have no answers that the policy could compare."""
    return kind is not ProblemKind.CODE or asks not in ASKED


def _accuracy(group: Sequence[Attempt]) -> float:
    scored = [float(a.is_correct) for a in group if a.verdict.outcome is not Outcome.UNSCORED]
    return sum(scored) / len(scored) if scored else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalFolder:
    """The files of one evaluation."""

    path: Path
    """The folder itself."""

    @property
    def exists(self) -> bool:
        """True if an evaluation was started here."""
        return (self.path / "manifest.json").is_file()

    @property
    def manifest(self) -> Manifest:
        """The manifest that `start` wrote. Raises UsageError where there is no evaluation."""
        if not self.exists:
            raise UsageError(f"{self.path} holds no manifest.json; give the --output of `thor eval`")
        try:
            found: Manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            if {"sets", "samples", "seed", "name"} <= found.keys():
                return found
        except (ValueError, AttributeError) as error:
            raise UsageError(f"{self.path / 'manifest.json'} is damaged: {error}") from error
        raise UsageError(f"{self.path / 'manifest.json'} is damaged: it lacks sets, samples, seed or name")

    def start(self, sets: tuple[ProblemSet, ...], manifest: Manifest) -> None:
        """Write problems and manifest, unless an earlier process of the same run did."""
        if self.exists:
            return
        for each in sets:
            write_problems(self._problems(each.name), each.problems)
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    @property
    def sets(self) -> tuple[ProblemSet, ...]:
        """The sets that were asked, in the order of the command."""
        return tuple(
            ProblemSet(
                name=entry["name"],
                title=entry["title"],
                problems=tuple(read_problems(self._problems(entry["name"]))),
                sha256=entry["sha256"],
                notes=tuple(entry["notes"]),
                kind=ProblemKind(entry.get("kind", ProblemKind.MATHEMATICS)),
            )
            for entry in self.manifest["sets"]
        )

    def file(self, name: str, shard: Shard) -> Path:
        """The file that this shard adds attempts at a set to."""
        return shard.file(self.path / "attempts", name)

    def journal(self, name: str, shard: Shard, *, hold: bool = False, ranks: Ranks = ALONE) -> Journal:
        """That file, open; processes that share a model fill it together."""
        return open_shared(self.file(name, shard), ranks, hold=hold)

    def rows(
        self, name: str, *, besides: Path | None = None, part: str = "attempts", parse: Parse = json.loads
    ) -> Mapping[str, JsonObject]:
        """All finished attempts at a set by key, but those in the file `besides`. Reads only: a torn end is no row.

        `part` names another folder of such files. A row is read, by `parse`, when it is asked for.
        """
        paths = sorted((self.path / part).glob(f"{escape(name)}*.jsonl"))
        own = (p for p in paths if p.name == f"{name}.jsonl" or p.name.removeprefix(f"{name}.")[0].isdecimal())
        return RowsOfFiles((path for path in own if path != besides), parse)

    def evaluation(self, asked: ProblemSet, *, counts_only: bool = False) -> Evaluation:
        """The attempts at a set, grouped by problem; those that a machine fault ended are counted by the fault.

        With `counts_only` the attempts know how many tokens they have, and not which.
        """
        rows = self.rows(asked.name, parse=counted_row if counts_only else json.loads)
        faults: Counter[str] = Counter()
        seconds: list[float] = []
        groups = []
        for problem in asked.problems:
            keys = (f"{problem.id}/{sample}" for sample in range(self.manifest["samples"]))
            found = [rows[key] for key in keys if key in rows]
            made = [row for row in found if DROPPED not in row]
            faults.update(str(row[DROPPED]) for row in found if DROPPED in row)
            seconds += [row["seconds"] for row in made if "seconds" in row]
            groups.append(tuple(attempt_from_json(row, problem) for row in made))
        return Evaluation(name=asked.name, groups=tuple(groups), faults=faults, seconds=seconds)

    def counts_suffice(self, *more: str) -> bool:
        """True where no function of one's own, which may read tokens, is among the run's selectors and these."""
        return all(map(is_built_in, (*self.selectors, *filter(None, (self.manifest.get("select"), *more)))))

    def chosen(self, asked: ProblemSet) -> Evaluation:
        """The attempts that count: all of them, or of each problem the one that the run's selector takes."""
        known, paid = self.manifest, self.evaluation(asked, counts_only=self.counts_suffice())
        select = known.get("select")
        if select is None:
            return paid
        return best_of(paid, select, seed=known["seed"], opinions=self.opinions(select, asked))

    @property
    def selectors(self) -> tuple[str, ...]:
        """Names of the selectors that are compared here."""
        return tuple(self._selection.get("selectors", ()))

    @property
    def asking(self) -> tuple[str, ...]:
        """Selectors whose opinions must be there before results can be: those that are compared, and the run's own."""
        own = self.manifest.get("select")
        return (*self.selectors, *(() if own is None else (own,)))

    def compare_selectors(self, names: Sequence[str], asks: Mapping[str, JsonObject]) -> None:
        """Record selectors to be compared, besides those that are already; `asks` says with what each asker is asked.

        An asker that was asked with something else before is asked anew.
        """
        known = self._selection
        asked = {**known.get("asked", {}), **asks}
        merged = {"schema": 1, "selectors": list(dict.fromkeys([*self.selectors, *names])), "asked": asked}
        if merged != known:
            write_atomically(self.path / "selectors.json", json.dumps(merged, indent=1) + "\n")

    @property
    def _selection(self) -> JsonObject:
        path = self.path / "selectors.json"
        try:
            found: JsonObject = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise UsageError(f"{path} is damaged: {error}") from error
        return found

    def opinions_part(self, asks: str) -> str:
        """The folder, within this one, of what an asker said."""
        about = self._selection.get("asked", {}).get(asks, {})
        return f"opinions/{asks.partition(':')[0]}-{digest(json.dumps([asks, about]))}"

    def opinion_rows(self, asks: str, asked: ProblemSet) -> Mapping[str, JsonObject]:
        """All that an asker said about a set, by problem."""
        return self.rows(asked.name, part=self.opinions_part(asks))

    def opinions(self, select_by: str, asked: ProblemSet) -> Opinions:
        """The numbers that a selector asked for; empty for a rule."""
        asks = selector(select_by).asks
        rows = self.opinion_rows(asks, asked).values() if asks else ()
        return {id: tuple(numbers) for row in rows for id, numbers in row.get("numbers", {}).items()}

    def num_unasked(self, asks: str, asked: ProblemSet) -> int:
        """Problems about which an asker is still to be asked."""
        if not is_asked_about(asks, asked.kind):
            return 0
        rows = self.rows(asked.name, parse=counted_row)
        made = {row["problem_id"] for row in rows.values() if DROPPED not in row}
        return len(made - self.opinion_rows(asks, asked).keys())

    def num_missing(self, asked: ProblemSet) -> int:
        """Attempts at a set that are still to be made."""
        wanted = {f"{problem.id}/{sample}" for problem in asked.problems for sample in range(self.manifest["samples"])}
        return len(wanted - self.rows(asked.name).keys())

    def writing(self, shard: Shard) -> AbstractContextManager[None]:
        """Hold the right to add attempts. Raises UsageError where another process holds it."""
        return shard.writing(self.path)

    def _problems(self, name: str) -> Path:
        return self.path / "problems" / f"{name}.jsonl"
