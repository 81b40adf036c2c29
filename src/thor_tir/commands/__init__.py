"""The commands behind the command line: typed options, and what each one runs. Each loads what it needs."""

from collections.abc import Callable
from typing import Any, cast

from thor_tir.address import is_address
from thor_tir.commands.table import COMMANDS, members, options_of
from thor_tir.distributed import end_with_starter, is_one_of_several, is_started_together, start_several
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError

__all__ = ["COMMANDS", "members", "options_of", "parsed", "run"]


SHARED = ("quickstart", "sft", "rl")
"""Commands that several processes can carry out together (docs/distributed.md)."""
IN_PARTS = ("eval", "tirgen", "tirgen generate")
"""Commands whose problems are divided among processes that know nothing of each other."""
TWO_MODELS = ("quickstart", "tirgen", "tirgen generate")
"""Commands that sample from a critic beside the actor."""
ENGINES = "engine up"
"""Command whose servers may stand on other hosts."""


def run(name: str, args: list[str]) -> None:
    """Parse the options of one command and carry it out. Raises UsageError for contradictions between options."""
    if (two := " ".join([name, *args[:1]])) in COMMANDS:
        name, args = two, args[1:]
    if name not in SHARED and is_one_of_several():
        raise UsageError(
            f"`thor {name}` works in one process: start it without torchrun; {', '.join(SHARED)} can share"
        )
    if name not in COMMANDS:
        _explain_group(name, args)
        return
    if asked := {"-h", "--help"}.intersection(args):
        _explain(name, [word for word in args if word not in asked], is_short="--help" not in asked)
        return
    options = parsed(name, args)
    _check_servers(name, options)
    is_ours = is_one_of_several() or is_started_together()
    if name in (*SHARED, *IN_PARTS, ENGINES) and not is_ours and (status := _started(name, options, args)) is not None:
        if status:
            raise SystemExit(status)
        if name in IN_PARTS:
            options.unite()
        return
    end_with_starter()
    cast(Callable[[], None], options.run)()


def _started(name: str, options: Any, args: list[str]) -> int | None:
    """The status of processes that carry it out in place of this one; None where this one does."""
    words, count, in_parts = [*name.split(), *args], options.num_processes, name in IN_PARTS
    if in_parts and options.processes > 1 and options.shard:
        raise UsageError(
            f"--shard {options.shard} is one part, and --processes {options.processes} makes {options.processes}: give "
            "one of them"
        )
    if getattr(options, "launcher", "local") == "ray":
        if name != ENGINES:
            options.check_places()
        if not options.dry_run:
            return cast(int, options.on_ray(words))
    return start_several(count, words, in_parts=in_parts) if count > 1 else None


def parsed(name: str, args: list[str]) -> Any:
    """The options of a command by its words. Raises UsageError for contradictions between them."""
    import tyro

    from thor_tir.commands.config_file import FIRST_OR_COUNT, names_of, with_config, without_config
    from thor_tir.commands.options import defaults

    typed, own = names_of(args), without_config(args)
    args = with_config(name, args)
    if "--count" in typed and "--first" in names_of(args):
        raise UsageError(FIRST_OR_COUNT)

    def read(words: list[str]) -> Any:
        return tyro.cli(options_of(name), args=words, prog=f"thor {name}", default=defaults(name, words))

    try:
        options = read(args)
        if hasattr(options, "check_typed"):
            of_files = args[: len(args) - len(own)]
            options.check_typed(read(of_files) if of_files else None)
        if hasattr(options, "check_named"):
            options.check_named(names_of(own))
        return options
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_servers(name: str, options: Any) -> None:
    """Refuse servers that nothing would be asked of."""
    engine = getattr(getattr(options, "resources", options), "engine", None)
    if not isinstance(engine, EngineOptions):
        return
    if engine.name == "local" and (of_servers := engine.of_servers):
        raise UsageError(
            f"{' and '.join(of_servers)} would not be read with --engine.name local: leave it out, or give "
            "--engine.name vllm"
        )
    if name not in TWO_MODELS and engine.critic_address:
        raise UsageError(f"--engine.critic-address is of TIRGen's critic, and `thor {name}` asks none: leave it out")
    critic, actor = getattr(options, "critic", None), getattr(options, "actor", getattr(options, "model", None))
    if _is_served(critic) and engine.critic_address:
        raise UsageError(f"the critic is asked at {critic}: leave out --engine.critic-address")
    is_for_critic = critic is not None and not _is_served(critic) and not engine.critic_address
    if _is_served(actor) and engine.address and not is_for_critic:
        raise UsageError(f"the model is asked at {actor}: leave out --engine.address")


def _is_served(model: object) -> bool:
    return isinstance(model, str) and is_address(model)


def _explain(name: str, args: list[str], *, is_short: bool) -> None:
    from thor_tir.commands.help import help_page
    from thor_tir.commands.options import defaults, preset_in

    print(help_page(name, defaults(name, args) if preset_in(args) else None, is_short=is_short))


def _explain_group(group: str, args: list[str]) -> None:
    names = members(group)
    if args and args[0] not in ("-h", "--help"):
        raise UsageError(f"`thor {group}` has the commands {', '.join(names)}; found {args[0]!r}")
    print(f"usage: thor {group} COMMAND [OPTIONS]\n")
    for name in names:
        print(f"  {name:<12}{COMMANDS[f'{group} {name}'].summary}")
    print(f"\n`thor {group} {names[0]} --help` explains a command's options.")
