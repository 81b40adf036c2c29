"""The schemas of an evaluation's manifest.json and results.json, and of a comparison. What does not exist is null."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class AskedSet(TypedDict):
    """One set of problems in a manifest."""

    name: str
    """Name of the set, and of its files."""
    title: str
    """Title of the set in tables."""
    kind: NotRequired[str]
    """Kind of the answers; mathematics where none is named."""
    n: int
    """Problems that were asked."""
    sha256: str
    """Digest of the problems."""
    notes: list[str]
    """Departures from the registered set."""


class Manifest(TypedDict):
    """Everything that is needed to repeat an evaluation, apart from the problems, whose digests it holds."""

    schema: int
    """Version of this form: 1."""
    name: str
    """Name of the configuration."""
    model: str
    """Model by name or address."""
    served: Mapping[str, Any] | None
    """Name, tokenizer and key's variable of a model behind an address."""
    weights_sha256: str | None
    """Digest of the weights; null where they are elsewhere."""
    samples: int
    """Attempts per problem."""
    select: str | None
    """Selector that takes one of them; null where all count."""
    seed: int
    """Seed of the attempts."""
    reasoning: bool
    """True for a reasoning model."""
    prompts: Mapping[str, Any]
    """Prompt by the kind of problems."""
    observation: Mapping[str, Any] | None
    """Form of what the model reads of a program's end; null without tools."""
    calls: Mapping[str, Any] | None
    """Spelling of calls, and tools beside Python; null without tools."""
    rollout: Mapping[str, Any]
    """Limits and sampling."""
    correction: Mapping[str, Any] | None
    """Self-correction; null for none."""
    resources: Mapping[str, Any]
    """Parts of the machine that were used."""
    sandbox: str
    """Level of the sandbox."""
    grader: Mapping[str, str]
    """Version and strictness of the grader."""
    extractor: str
    """Way from a reply to its program."""
    judge: Mapping[str, str] | None
    """Language model that judged; null for none."""
    versions: Mapping[str, str]
    """Versions of the packages that results depend on."""
    machine: str
    """Class of the machine."""
    sets: list[AskedSet]
    """Sets that were asked."""


class Estimate(TypedDict):
    """A number with its interval over problems."""

    value: float
    """The number itself."""
    ci95: list[float]
    """Both ends of the 95 % interval."""
    n: NotRequired[int]
    """Problems that it is the mean of."""


class StratifiedSuccess(TypedDict):
    """Tool success against correctness, with the difficulty of problems taken out."""

    chi2: float
    """Mantel-Haenszel's chi-squared."""
    p: float
    """Chance of so large a chi-squared without an association."""
    odds_ratio: float | None
    """Odds ratio common to all problems."""
    ci95: list[float | None]
    """Both ends of its 95 % interval."""
    informative_problems: int
    """Problems whose attempts differ in both."""


class ToolSuccess(TypedDict):
    """Tool success against correctness (paper, Table 4)."""

    table: list[list[int]]
    """Rows: every call ran, some call failed. Columns: right, wrong."""
    chi2: float
    """Pearson's chi-squared."""
    p: float
    """Chance of so large a chi-squared without an association."""
    phi: float
    """Correlation of both, -1..1."""
    odds_ratio: float | None
    """Odds of a right answer where every call ran over those where one failed."""
    stratified: StratifiedSuccess
    """The same with a stratum for each problem."""


class Corrections(TypedDict):
    """Counts over all attempts of what became of failed calls, and of what was spent on them."""

    failed: int
    """Calls that failed when they were first written."""
    repaired: int
    """Those that a retry replaced by a call that succeeds."""
    recovered: int
    """Those that stayed with their error, and after which a later call succeeded."""
    dropped: int
    """Those that were taken out of the context."""
    retries: int
    """Attempts at writing a failed call again."""
    repeats: int
    """Retries whose program is that of the failed call or of an earlier retry."""
    discarded_calls: int
    """Programs that were run and do not stand in the context."""
    discarded_s: float
    """Seconds for which those programs ran."""


class Costs(TypedDict):
    """Costs per attempt that counts."""

    attempts: int
    """Attempts that were made."""
    code_ratio: float
    """Share of attempts that use code."""
    calls: float
    """Tool calls."""
    calls_succeeded: int
    """Calls of all attempts that ran and printed something."""
    calls_failed: int
    """The other calls of all attempts."""
    call_success: Estimate | None
    """Share of calls that ran and printed something."""
    calls_ran: float | None
    """Share of calls that ran, whether or not they printed anything."""
    call_limit_share: float
    """Share of attempts that wanted more calls than they had."""
    near_miss_share: float
    """Share of attempts that wrote a program in fences that were not read, so that it was not run."""
    repairs: float
    """Attempts of self-correction at writing a failed call again."""
    correction: Corrections
    """Failed calls, and what self-correction made of them."""
    tokens_kept: float
    """Tokens of the response that the model wrote."""
    tokens_discarded: float
    """Tokens that self-correction cut away."""
    seconds: float
    """Wall-clock time of an attempt, waiting included."""


class Losses(TypedDict):
    """Attempts that say nothing of the model, and those that it could not begin."""

    asked: int
    """Attempts that were asked for."""
    machine: dict[str, int]
    """Attempts that a fault of the machine ended, by the fault; they count for nothing."""
    unscored: int
    """Attempts that could not be graded; they count for nothing."""
    no_room: int
    """Attempts whose prompt fills the model's whole context; they count as wrong."""


class Asked(TypedDict):
    """Requests of a selector to a model, per problem."""

    calls: float
    """Requests to the model."""
    read_tokens: float
    """Tokens that it read."""
    tokens: float
    """Tokens that it wrote."""
    seconds: float
    """Wall-clock time, waiting included."""
    problems: int
    """Problems that were asked about."""
    requests: int
    """Requests about all problems."""
    fallbacks: int
    """Requests that gave nothing usable, or did not fit the model's context, so that a rule decided."""
    lost: int
    """Problems about which nothing could be asked, for a fault of the machine."""


class SelectorResult(TypedDict):
    """One selector on the attempts of a set."""

    is_bound: bool
    """True where it knows the verdicts, so that it is an upper bound."""
    accuracy: Estimate | None
    """Accuracy of the attempts that it takes."""
    against_pass_rate: Estimate | None
    """Paired difference to those of the paper's selector."""
    against_one: Estimate | None
    """Paired difference to a single attempt: the mean of all."""
    by_n: dict[str, Estimate | None]
    """Accuracy by the number of candidates, over all subsets of that size; empty where that would have to be asked."""
    asked: Asked | None
    """Requests that were made; null for a rule."""


class SetResult(Costs):
    """Results on one set of problems."""

    name: str
    """Name of the set."""
    title: str
    """Title of the set in tables."""
    kind: str
    """Kind of the answers: mathematics or code."""
    n: int
    """Problems that were asked."""
    n_scored: int
    """Problems with a scored attempt."""
    notes: list[str]
    """Departures from the registered set."""
    avg: Estimate | None
    """Accuracy of the attempts that count: Avg@k."""
    pass_at: dict[str, Estimate | None]
    """pass@k by k."""
    maj_at: dict[str, Estimate | None]
    """maj@k by k; empty for code."""
    judged: int
    """Verdicts that a language model gave."""
    ends: dict[str, int]
    """Attempts by how they ended."""
    lost: Losses
    """Attempts that were asked for and measure nothing."""
    by_subject: dict[str, Estimate]
    """Accuracy by subject."""
    by_level: dict[str, Estimate]
    """Accuracy by level."""
    by_source: dict[str, Estimate]
    """Accuracy by family or file."""
    tool_success: ToolSuccess
    """Association of tool success with correctness."""
    failure_classes: dict[str, int]
    """Failed calls by exception or status."""
    selectors: dict[str, SelectorResult]
    """Selectors that were compared on the same attempts, by name; empty where none were."""


class Average(TypedDict):
    """Unweighted mean over sets."""

    of: list[str]
    """Names of the sets."""
    avg: Estimate | None
    """Mean accuracy; null where a set has none."""
    pass_at: dict[str, Estimate | None]
    """Mean pass@k, for each k that all sets have."""
    maj_at: dict[str, Estimate | None]
    """Mean maj@k, for each k that all sets have."""
    code_ratio: float
    """Mean share of attempts that use code."""
    calls: float
    """Mean number of calls."""
    tokens_kept: float
    """Mean number of tokens."""
    seconds: float
    """Mean time."""
    selectors: NotRequired[dict[str, Estimate | None]]
    """Mean accuracy of each selector that was compared on all sets."""


class Averages(TypedDict):
    """Means over the sets of a run."""

    average: Average | None
    """Mean over the sets of mathematics."""
    six_set_average: Average | None
    """Mean over the paper's six sets; null where one is missing."""
    code_average: Average | None
    """Mean over the sets of programs."""


class Results(Averages):
    """The whole of results.json."""

    schema: int
    """Version of this form: 1."""
    name: str
    """Name of the configuration."""
    model: str
    """Model by name or address."""
    samples: int
    """Attempts per problem."""
    select: str | None
    """Selector that takes one of them; null where all count."""
    seed: int
    """Seed of the attempts."""
    sets: list[SetResult]
    """Results by set."""


class McNemarResult(TypedDict):
    """McNemar's exact test."""

    only_first: int
    """Problems that only the first run solved."""
    only_second: int
    """Problems that only the second run solved."""
    p: float
    """Two-sided chance of so uneven a split."""


class SetComparison(TypedDict):
    """First minus second on one set."""

    name: str
    """Name of the set."""
    title: str
    """Title of the set in tables."""
    asked: int
    """Problems that both were asked."""
    n: int
    """Problems that both have scored."""
    first: float | None
    """Accuracy of the first run."""
    second: float | None
    """Accuracy of the second run."""
    difference: Estimate | None
    """Difference of accuracies, paired."""
    mcnemar: McNemarResult
    """Test of the problems that one run alone solved."""
    flipped: dict[str, list[str]]
    """Ids of those problems, by the run."""


class Comparison(TypedDict):
    """The content of a comparison's file."""

    first: Mapping[str, Any]
    """Folder, model and sampling of the first run."""
    second: Mapping[str, Any]
    """Folder, model and sampling of the second run."""
    sets: list[SetComparison]
    """Differences by set."""
    average: Estimate | None
    """Mean difference over the sets."""
