"""The stages that tables share, and the models that they are run on."""

from thor_tir.reproduce import family
from thor_tir.reproduce.declared import Stage, Subject

_PRESET = ("--preset", "{preset}")


def tuned(name: str, data: str) -> Stage:
    """A cold start on a data set."""
    words = (*_PRESET, "--model", "{actor}", "--data", data, "--save-dtype", "float32", "--seed", "{seed}")
    return Stage(name=name, command="sft", words=words, seconds=20)


def trained(name: str, *words: str) -> Stage:
    """RL from the cold start, under a name and options of its own."""
    model = ("--model", "{sft}/model", "--seed", "{seed}", "--validate-every", "0", "--save-dtype", "float32")
    return Stage(name=name, command="rl", words=(*_PRESET, *model, *words), seconds=250)


def evaluated(name: str, model: str, samples: int, *words: str, is_of_seed: bool = True) -> Stage:
    """An evaluation on the problems that every row is asked, with the same seeds of attempts."""
    asked = ("--model", model, "--samples", str(samples), "--seed", "0")
    return Stage(
        name=name, command="eval", words=(*_PRESET, *asked, *words), is_of_seed=is_of_seed, seconds=16 * samples
    )


_TEXTS = {
    "all": "{tirgen-more}/dataset.jsonl",
    "reworded-all": "{reworded}/reworded-all.jsonl",
    **{author: f"{{authors}}/{author}.jsonl" for author in ("own", "tirgen", "reworded")},
}
"""Data sets of figure 4 by the names of its cold starts."""

_ALL = (
    Stage(
        name="tirgen",
        command="tirgen",
        words=(*_PRESET, "--actor", "{actor}", "--critic", "{critic}", "--seed", "{seed}"),
        seconds=20,
    ),
    tuned("sft", "{tirgen}/dataset.jsonl"),
    trained("rl-joint", "--levels", "joint"),
    trained("rl-episode", "--levels", "episode"),
    trained("rl-step", "--levels", "step"),
    evaluated("eval-base-no-tools", "{actor}", 4, "--no-tools", is_of_seed=False),
    evaluated("eval-base", "{actor}", 4, is_of_seed=False),
    evaluated("eval-sft", "{sft}/model", 2),
    evaluated("eval-episode", "{rl-episode}/model", 2),
    evaluated("eval-step", "{rl-step}/model", 2),
    evaluated("eval-joint", "{rl-joint}/model", 8),
    *(
        evaluated(f"eval-joint-{scope}", "{rl-joint}/model", 2, "--correct", "--correction.scope", scope)
        for scope in ("action", "suffix", "replan")
    ),
    Stage(
        name="reward",
        command="reward train",
        words=("--runs", "{rl-joint}", "--model", "{rl-joint}/model"),
    ),
    Stage(
        name="choose-reward",
        command="eval select",
        words=("{eval-joint}", "--select", "reward:{reward}", "pass-rate-then-reward:{reward}"),
        output="",
    ),
    *(
        stage
        for experiment, same in family.SAME.items()
        for method, words in family.METHODS.items()
        for stage in (
            trained(f"rl-{experiment}-{method}", *same, *words),
            evaluated(f"eval-{experiment}-{method}", f"{{rl-{experiment}-{method}}}/model", 2),
        )
    ),
    Stage(
        name="tirgen-more",
        command="tirgen",
        words=(
            *(*_PRESET, "--actor", "{actor}", "--critic", "{critic}", "--seed", "{seed}"),
            *("--count", "480", "--no-tools-samples", "0"),
        ),
    ),
    *(
        Stage(
            name=name,
            command="eval authors",
            words=(
                *(*_PRESET, "--data", "{tirgen-more}/dataset.jsonl", "--model", "{actor}", "--seed", "{seed}"),
                *words,
            ),
        )
        for name, words in (("reworded", ("--attempts", "0")), ("authors", ()))
    ),
    *(
        stage
        for texts, data in _TEXTS.items()
        for stage in (
            tuned(f"sft-{texts}", data),
            evaluated(f"eval-sft-{texts}", f"{{sft-{texts}}}/model", 16, "{limit}", "120"),
        )
    ),
    evaluated("eval-base-16", "{actor}", 16, "{limit}", "120", is_of_seed=False),
)


def _gsm8k(name: str, model: str, *words: str, is_of_seed: bool = True) -> Stage:
    asked = ("--problems", "gsm8k", "--data", "{data}", "--limit", "96")
    return evaluated(f"gsm8k-{name}", model, 1, *asked, *words, is_of_seed=is_of_seed)


_GSM8K = (
    trained(
        "rl-gsm8k",
        *("--levels", "joint", "--problems", "{data}/gsm8k_train.jsonl"),
        *("--validation-problems", "{data}/gsm8k_test.jsonl"),
    ),
    _gsm8k("own", "{rl-gsm8k}/model"),
    _gsm8k("base-no-tools", "{actor}", "--no-tools", is_of_seed=False),
    _gsm8k("base", "{actor}", is_of_seed=False),
    _gsm8k("sft", "{sft}/model"),
    _gsm8k("joint", "{rl-joint}/model"),
)
STAGES = {stage.name: stage for stage in (*_ALL, *_GSM8K)}
"""Every common stage by its name."""

_SMALL = "models/smollm2-135m"
_OF_SMALL = (
    evaluated("eval-base-no-tools", _SMALL, 2, "--no-tools", is_of_seed=False),
    evaluated("eval-base", _SMALL, 2, is_of_seed=False),
    evaluated("eval-sft", "{sft}/model", 2),
    evaluated("eval-joint-suffix", "{rl-joint}/model", 2, "--correct", "--correction.scope", "suffix"),
    _gsm8k("base-no-tools", _SMALL, "--no-tools", is_of_seed=False),
    _gsm8k("base", _SMALL, is_of_seed=False),
)
"""Evaluations of the small real model: the base is the model as it was published, which boxes no answer, and attempts
take about a second each."""

SUBJECTS = {
    "nano": Subject(name="nano", actor="nano/actor", critic="nano/critic", preset="nano"),
    "nano-thinker": Subject(name="nano-thinker", actor="nano/thinker", critic="nano/critic", preset="nano-thinker"),
    "smollm2-135m": Subject(
        name="smollm2-135m",
        actor=f"{_SMALL}-boxed",
        critic=f"{_SMALL}-critic",
        preset="smollm2-135m",
        words={
            "tirgen": ("--count", "320", "--attempts", "2", "--until-solved", "--concurrency", "48"),
            "eval": ("--num-problems", "100", "--concurrency", "48"),  # a kill costs what is in flight
            "authors": ("--attempts", "8", "--concurrency", "48"),  # it solves few questions alone
            **{f"eval-{texts}": ("--num-problems", "60") for texts in ("base-16", *(f"sft-{each}" for each in _TEXTS))},
        },
        stages={stage.name: stage for stage in _OF_SMALL},
    ),
}
"""Models that --model knows by name."""
