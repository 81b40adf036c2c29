"""A sandbox that runs nothing: it was told what each program yields. For tests that are not about running programs."""

from collections.abc import Callable, Mapping

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits


def printed(text: str) -> ExecutionResult:
    return ExecutionResult(status=Status.OK, stdout=f"{text}\n", exit_code=0)


def raised(error: str = "NameError") -> ExecutionResult:
    return ExecutionResult(status=Status.RUNTIME, stdout="", stderr=f"{error}: no", error=error, exit_code=1)


class ToldSandbox:
    """Looks programs up by their text without blanks around it; `otherwise` answers the rest. Remembers what ran."""

    def __init__(
        self,
        results: Mapping[str, ExecutionResult] | None = None,
        otherwise: Callable[[str], ExecutionResult] = lambda code: raised("SyntaxError"),
    ) -> None:
        self.ran: list[str] = []
        self._results = dict(results or {})
        self._otherwise = otherwise

    @property
    def level(self) -> str:
        return "told"

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        self.ran.append(code.strip())
        return self._results.get(code.strip()) or self._otherwise(code.strip())
