"""Options of a run that mean nothing, or that nothing would read: a run is not begun with them.

A run that was begun before this was looked at goes on.
"""

import shlex
from collections.abc import Iterator
from dataclasses import fields

from thor_tir.errors import UsageError
from thor_tir.rl.config import RLConfig
from thor_tir.rl.step_methods.table import METHODS, method_of

_OF_FILTERS = {"min_tokens": "too-short", "box_window": "no-box"}
"""Fields of the episode level that one filter alone reads, and that filter."""


def check_meaning(config: RLConfig, usual: RLConfig, given: RLConfig | None = None) -> None:
    """Raise UsageError for an option without a meaning or a reader; `usual` are the values that the preset gives.

    `given` are those that a file gives, such as the record of another run, which holds every option: where they make
    sense by themselves, only what differs from them is looked at.
    """
    if given is not None and not [*_unread(given, usual), *_meaningless(given)]:
        usual = given
    for sentence in (*_unread(config, usual), *_meaningless(config)):
        raise UsageError(sentence)


def _meaningless(config: RLConfig) -> Iterator[str]:
    step, episode, method = config.step, config.episode, method_of(config)
    if "max_queries_share" in method.reads and not 0 < step.max_queries_share <= 1:
        yield (
            f"--step.max-queries-share is {step.max_queries_share:g}: a share of a round's problems is above 0 and at "
            "most 1; --step.method none asks for none"
        )
    if "probe" in method.reads and not step.probe.strip():
        yield (
            "--step.probe is empty, and --step.method potential samples an answer behind it: give words that an answer "
            "follows, such as the default's"
        )
    if episode.grouping != "chains" and episode.first_chains >= episode.num_sampled:
        yield (
            f"--first-chains {episode.first_chains} leaves none of the {episode.num_sampled} trajectories of a group "
            f"to --grouping {episode.grouping}: give fewer, or --grouping chains"
        )


def _unread(config: RLConfig, usual: RLConfig) -> Iterator[str]:
    method, is_off = config.step.method, config.levels == "episode"
    if is_off and method not in (usual.step.method, "none"):
        yield (
            f"--levels episode credits no single steps, so --step.method {method} would not be read: leave one of them "
            "out"
        )
    for name, value, preset in _changed(config.step, usual.step):
        if name == "method" or name in method_of(config).reads:
            continue
        readers = " or ".join(other for other, known in METHODS.items() if name in known.reads)
        with_what = "--levels episode" if is_off else f"--step.method {method}"
        instead = "" if is_off else f", or give --step.method {readers}"
        yield (
            f"--step.{_flag(name)} {value} would not be read with {with_what}: leave it out (then it is {preset})"
            f"{instead}"
        )
    for name, value, preset in _changed(config.episode, usual.episode):
        if (needed := _OF_FILTERS.get(name)) is not None and needed not in config.episode.filters:
            yield (
                f"--{_flag(name)} {value} is of the filter {needed}, which --filters lacks: leave it out (then it is "
                f"{preset}), or add it"
            )
    if not config.adapters.lora_r and config.adapters.lora_alpha != usual.adapters.lora_alpha:
        yield f"--lora-alpha {config.adapters.lora_alpha} is the scale of adapters, and there are none: give --lora-r"


def _changed(options: object, usual: object) -> Iterator[tuple[str, str, str]]:
    """The fields whose values differ, with the words of both values."""
    for field in fields(options):  # type: ignore[arg-type]
        value, preset = getattr(options, field.name), getattr(usual, field.name)
        if value != preset:
            yield field.name, _words(value), _words(preset)


def _words(value: object) -> str:
    return shlex.join(map(str, value if isinstance(value, tuple) else (value,)))


def _flag(name: str) -> str:
    return name.replace("_", "-")
