"""The command line: finds the command, loads no more than it needs, and turns faults into one sentence.

Exit status 0: done; 1: a fault of the machine; 2: a mistake in what was asked; 130: interrupted.
"""

import os
import sys
from collections.abc import Sequence

from thor_tir import commands
from thor_tir.errors import MachineFault, NothingMeasured, UsageError


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; ends the process with its status."""
    args = list(sys.argv[1:] if argv is None else argv)
    # Spinning OpenMP threads slow everything fivefold on a busy machine; must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        status = _dispatch(args)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def _dispatch(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"thor {version('thor-tir')}")
        return 0
    known = dict.fromkeys(name.split()[0] for name in commands.COMMANDS)
    if args[0] not in known:
        _fail(f"unknown command {args[0]!r}; known: {', '.join(known)}", status=2)
    return _run(args[0], args[1:])


def _run(name: str, args: Sequence[str]) -> int:
    try:
        commands.run(name, list(args))
    except UsageError as error:
        _fail(str(error), status=2)
    except NothingMeasured as fault:
        _fail(str(fault), status=1)
    except MachineFault as fault:
        _fail(f"{fault} (what is finished is on disk; the same command continues)", status=1)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues where this one stopped", status=130)
    return 0


def _overview() -> str:
    lines = "\n".join(f"  {name:<16}{command.summary}" for name, command in commands.COMMANDS.items())
    return f"""usage: thor COMMAND [OPTIONS]

THOR makes language models exact at mathematics by letting them write and run Python while they reason.

{lines}

`thor COMMAND --help` explains a command's options. Begin with `thor quickstart`, or with
  thor solve "Find the Greatest Common Divisor (GCD) of these numbers: 780, 461."
"""


def _fail(sentence: str, *, status: int) -> None:
    rank = os.environ.get("RANK", "0")  # of several processes under torchrun
    print(f"thor{'' if rank == '0' else f' (process {rank})'}: {sentence}", file=sys.stderr)
    sys.exit(status)
