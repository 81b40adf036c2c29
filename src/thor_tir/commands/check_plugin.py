"""The command that tries a function of one's own."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

import tyro

from thor_tir.console import ConsoleReporter, text_table
from thor_tir.errors import UsageError
from thor_tir.hooks import CONTRACTS, HookKind

KINDS = "; ".join(
    f"{kind}: ({', '.join(each.takes)}) -> {each.gives}" for kind, each in CONTRACTS.items() if each.takes is not None
)
"""Arguments and results of all kinds, in a line."""


@dataclass(frozen=True, kw_only=True)
class CheckPlugin:
    """Try a function of your own on samples, as a run would call it: right, wrong, empty, failing and hostile ones.

    Each case is called several times. The table says what came back, or the fault with its file and line; remarks name
    what is allowed and may surprise: different results for one call, printing, a call that blocks. Exit status 0 means
    that all cases kept the contract, 2 that one did not.
    """

    name: tyro.conf.Positional[str]
    """The function as options spell it: file.py:function, module:function, the short name that an installed package
    offers, or verifiers:NAME; with parameters as in file.py:function,scale=2."""
    kind: Annotated[
        HookKind | None, tyro.conf.arg(help=f"Kind, where the names of its arguments do not tell. {KINDS}")
    ] = None
    """Kind of the function."""
    arguments: str = ""
    """JSON object of arguments with which a tool is called, such as '{"key": "first"}'; without it a tool is loaded and
    not called."""
    calls: int = 2
    """Calls of each case: more of them find what fails late."""

    def run(self) -> None:
        """Try it and print a table. Raises UsageError where a case failed."""
        from thor_tir.app.plugin_check import check_plugin, kind_of_plugin

        if self.calls < 1:
            raise UsageError(f"--calls is {self.calls}; each case is called at least once")
        reporter = ConsoleReporter()
        kind = self.kind or kind_of_plugin(self.name)
        tried = check_plugin(self.name, kind, calls=self.calls, arguments=self.arguments)
        rows = [
            ("yes" if t.is_fine else "NO", t.case, f"{1000 * t.seconds:.1f} ms", t.result if t.is_fine else "see below")
            for t in tried
        ]
        reporter.show(text_table(f"{self.name} ({kind})", ("kept", "case", "slowest call", "result"), rows))
        faults = Counter(each.result for each in tried if not each.is_fine)
        remarks = Counter(remark for each in tried for remark in each.remarks)
        for word, sentences in (("remark", remarks), ("fault", faults)):
            for sentence, count in sentences.items():
                reporter.say(f"{word}: {sentence} ({count} of {len(tried)} cases)")
        if kind == "tool" and not self.arguments:
            reporter.say("no call was tried: --arguments '{...}' makes one, and shows what a model would read")
        if faults:
            raise UsageError(f"{faults.total()} of {len(tried)} cases broke the contract ({kind})")
        reporter.say(f"{len(tried)} of {len(tried)} cases kept the contract ({kind})")
