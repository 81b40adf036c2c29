"""The command line: finds the command, loads no more than it needs, and turns faults into one sentence.

Exit status 0: done; 1: a fault of the machine; 2: a mistake in what was asked; 3: `thor solve` found no answer;
130: interrupted; 143: ended by SIGTERM.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import current_thread, main_thread

from thor_tir import commands
from thor_tir.distributed import is_started_together
from thor_tir.ending import ended_by
from thor_tir.errors import MachineFault, NothingMeasured, OutputClosed, UsageError
from thor_tir.extras import need_of


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
        with _terminable():
            commands.run(name, list(args))
    except UsageError as error:
        _fail(str(error), status=2)
    except OutputClosed:
        return 1
    except NothingMeasured as fault:
        _fail(str(fault), status=1)
    except MachineFault as fault:
        kept = " (what is finished is on disk; the same command continues)" if name in GO_ON else ""
        _fail(f"{fault}{kept}", status=1)
    except Terminated:
        _fail(f"ended by SIGTERM{_going_on(name)}", status=143)
    except ModuleNotFoundError as error:
        try:
            need_of(error, f"`thor {name}`")
        except UsageError as sentence:
            _fail(str(sentence), status=2)
        raise
    except KeyboardInterrupt:
        _fail(f"interrupted{_going_on(name)}", status=130)
    except Exception as error:
        from thor_tir.storage.journal import is_want_of_room

        if not is_want_of_room(error):
            raise
        _fail("no room is left on the disk: free some space, and the same command continues", status=1)
    return 0


def _going_on(name: str) -> str:
    return "; the same command continues where this one stopped" if name in GO_ON else ""


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which ends a command as an interruption does."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise Terminated at SIGTERM, unless another handler is set already, as servers set one later."""
    is_free = current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with ended_by(signal.SIGTERM, Terminated) if is_free else nullcontext():
        yield


GO_ON = frozenset({"code", "eval", "quickstart", "reproduce", "reward", "rl", "sft", "tirgen"})
"""Commands, by their first word, that go on from what they left on disk."""
EXAMPLE = "Find the Greatest Common Divisor (GCD) of these numbers: 436, 576. Give only the GCD as your final answer."
"""A question that the embedded model answers right, by a program."""


def _overview() -> str:
    lines = "\n".join(f"  {name:<18}{command.summary}" for name, command in commands.COMMANDS.items())
    return f"""usage: thor COMMAND [OPTIONS]

THOR makes language models exact at mathematics by letting them write and run Python while they reason.

{lines}

`thor COMMAND -h` explains the options that everyone needs, `--help` all of them. Begin with `thor quickstart`, or with
  thor solve "{EXAMPLE}"
"""


def _fail(sentence: str, *, status: int) -> None:
    from thor_tir.console import visible

    if status in (130, 143) and is_started_together():
        sys.exit(status)
    rank = os.environ.get("RANK", "0")  # of several processes under torchrun
    print(visible(f"thor{'' if rank == '0' else f' (process {rank})'}: {sentence}"), file=sys.stderr)
    sys.exit(status)
