"""Prompts of one's own, from a TOML file whose tables take the place of packaged prompts.

[tools]
system = "Be exact."
user = "{text}\\nAnswer in \\\\boxed{}."
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thor_tir.dialect.prompts import CODE, CODE_TOOLS, CRITIC, NO_TOOLS, TOOLS, PromptStyle
from thor_tir.errors import UsageError

Prompts = Mapping[PromptStyle, PromptStyle]
"""Prompts of one's own by the packaged ones whose place they take."""
STYLES = {"tools": TOOLS, "no-tools": NO_TOOLS, "critic": CRITIC, "code": CODE, "code-tools": CODE_TOOLS}
"""Packaged prompts by the names of their tables."""
_TEXT = "{text}"


def read_prompts(path: str) -> Prompts:
    """The prompts of a file; none for no file. Raises UsageError for what is no such file."""
    if not path:
        return {}
    try:
        tables = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"--prompts {path} cannot be read as TOML ({getattr(error, 'strerror', 0) or error})"
        ) from error
    if not tables or tables.keys() - STYLES.keys():
        found = ", ".join(tables) or "nothing"
        raise UsageError(f"--prompts {path} has tables called {', '.join(STYLES)}; found {found}")
    return {STYLES[name]: _style(STYLES[name], table, f"--prompts {path}, {name}") for name, table in tables.items()}


def _style(packaged: PromptStyle, table: Any, where: str) -> PromptStyle:
    is_table = isinstance(table, dict) and bool(table) and table.keys() <= {"system", "user"}
    if not is_table or not all(isinstance(text, str) for text in table.values()):
        raise UsageError(f"{where}: expected `system` and `user`, or one of them, as strings; found {table!r:.80}")
    own = replace(packaged, system=table.get("system", packaged.system))
    if "user" not in table:
        return own
    if _TEXT not in table["user"]:
        raise UsageError(f"{where}: `user` holds no {_TEXT}, where the question stands")
    user = table["user"].replace("{", "{{").replace("}", "}}").replace("{{text}}", _TEXT)
    return replace(own, user=user)
