"""Faults of the machine and of the user. A fault of the model is data and has no exception here."""


class MachineFault(Exception):
    """Something outside the model broke. It never becomes a reward: who catches it drops the sample and counts it."""


class SandboxUnavailable(MachineFault):
    """The sandbox could not run a program, which says nothing about the program."""


class SandboxLost(SandboxUnavailable):
    """No server of the sandbox runs anything any more: no single program is lost, the run stops."""


class ToolUnavailable(MachineFault):
    """A tool beside Python failed, which says nothing about the call: its service is away, or its code is broken."""


class ToolLost(ToolUnavailable):
    """A tool fails at call after call: no single attempt is lost, the run stops."""


class GraderUnavailable(MachineFault):
    """The grader's own process could not be started or kept alive."""


class EngineFault(MachineFault):
    """An engine stopped before it could finish what was asked of it."""


class RequestFault(MachineFault):
    """An engine answers others, but failed again and again at one request: what asked for it is dropped and counted."""


class NothingMeasured(MachineFault):
    """An evaluation is finished, and not one of its attempts could be scored."""


class HubUnavailable(MachineFault):
    """A hub did not take what was sent to it, for a reason of its own."""


class DiskFull(MachineFault):
    """A disk has no room for what must be written."""


class UsageError(ValueError):
    """The user's mistake, described in one sentence: what was expected, what was found, what to do."""


class OutputClosed(Exception):
    """The reader of standard output left before the end of a command, which ends there without a word."""
