"""Commands that work where no extra is installed, each run for real against a scripted server of the OpenAI kind.

`python tests/support/core_commands.py FOLDER` runs them with the interpreter's own packages, and hides what extras
bring. Prints a JSON object: what came of each command.
"""

import asyncio
import json
import os
import re
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec, PathFinder
from io import StringIO
from pathlib import Path
from typing import Any

from endpoint_server import Asked, Server, says
from thor_tir import cli
from thor_tir.extras import EXTRAS

STEP = "We add the numbers: 19 + 23."
CALL = f"{STEP}\n```python\nprint(19 + 23)\n```\n"
END = "So the answer is \\boxed{42}."


class CoreFinder(PathFinder):
    """Finds what is installed, but for what an extra brings."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in EXTRAS else PathFinder.find_spec(fullname, path, target)


async def model(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """An actor that thinks first and answers once it has seen an output, and a critic that writes its program."""
    seen = json.dumps(asked.body)
    text = CALL if asked.body["model"] == "critic" else END if re.search(r"output\\+n42", seen) else STEP
    if asked.body["model"] == "solver" and text == STEP:
        text = CALL
    said = {"message": {"role": "assistant", "content": text}} if "messages" in asked.body else {"text": text}
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": None, **said}
    await says({"choices": [choice], "usage": {"completion_tokens": 9}})(asked, writer)


def status_of(*argv: str) -> tuple[int, str]:
    """Exit status and all that was printed."""
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            cli.main(argv)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def served(server: Server) -> None:
    """Start the server in a thread of its own; it ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)


def main(folder: Path) -> dict[str, object]:
    """Run the commands."""
    os.chdir(folder)
    sys.meta_path[:] = [CoreFinder if finder is PathFinder else finder for finder in sys.meta_path]
    server = Server(usual=model, models=[{"id": name} for name in ("actor", "critic", "solver")])
    served(server)
    Path("problems.jsonl").write_text(
        "".join(json.dumps({"question": f"What is 19 plus 23? ({n})", "answer": "42"}) + "\n" for n in range(2))
    )
    Path("pairs.jsonl").write_text(json.dumps({"id": 1, "gold": "1/2", "pred": "0.5", "kind": "answer"}) + "\n")
    Path("program.py").write_text("print(6 * 7)\n")
    both = ("--actor", server.address, "--critic", server.address, "--actor-model", "actor", "--critic-model", "critic")
    solver = ("--model", server.address, "--model-name", "solver")
    commands = {
        "grade": ["grade", "--jsonl", "pairs.jsonl", "--output", "verdicts.jsonl"],
        "sandbox run": ["sandbox", "run", "program.py"],
        "tirgen": ["tirgen", *both, *["--problems", "problems.jsonl", "--count", "2", "--output", "tirgen"]],
        "eval": ["eval", *solver, *["--problems", "problems.jsonl", "--samples", "1", "--output", "eval"]],
        "families": ["eval", "--problems", "reasoning_gym:gcd", "--limit", "2", "--output", "families"],
        "rl": ["rl", "--model", "nano/actor", "--problems", "problems.jsonl", "--output", "rl"],
    }
    return {name: status_of(*argv) for name, argv in commands.items()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
