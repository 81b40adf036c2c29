"""Access: bearer keys by name, or everybody on this machine where there are none.

Keys come from the environment or from a file, never from the command line, which other users of a machine can read.
Without keys a web page could ask as well as its reader could, so that Host and Origin must be this machine's own.
"""

import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from thor_tir.errors import UsageError
from thor_tir.web_service import TurnedAway, bearer, refuse_other_hosts

KEYS_VARIABLE = "THOR_SERVE_KEYS"
"""Environment variable with keys, separated by blanks or commas."""
LOCAL = "local"
"""Name of every client of a server without keys."""
SHORTEST_KEY = 16


class Keys:
    """The keys of a server, by the names that logs know them by. Keys themselves are never shown."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """Raises UsageError for a key that a client could not send, or could guess."""
        for name, key in keys.items():
            if not (key.isascii() and key.isprintable() and " " not in key and len(key) >= SHORTEST_KEY):
                raise UsageError(
                    f"the key {name!r} must have at least {SHORTEST_KEY} printable ASCII characters without blanks: "
                    "make one with `openssl rand -hex 24`"
                )
        self._keys = {name: key.encode() for name, key in keys.items()}

    def __len__(self) -> int:
        return len(self._keys)

    def client(self, headers: Mapping[str, str]) -> str:
        """The name of whoever sends these headers. Raises TurnedAway."""
        if not self._keys:
            refuse_other_hosts(headers)
            return LOCAL
        given = bearer(headers) or b""
        # All keys are compared, each in constant time: how long it takes says nothing about them.
        found = [name for name, key in self._keys.items() if hmac.compare_digest(given, key)]
        if not found:
            raise TurnedAway(401, "the bearer key is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return found[0]


def read_keys(file: Path | None) -> dict[str, str]:
    """The keys of the environment, and those of a file with lines `KEY` or `NAME KEY`. Raises UsageError."""
    words = os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
    keys = {f"key {number}": key for number, key in enumerate(words, 1)}
    if file is None:
        return keys
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the key file {file} cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"other users of this machine may read the key file {file}: chmod 600 it")
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        name = parts[0] if len(parts) == 2 else f"line {number}"
        if len(parts) > 2 or name in keys:
            raise UsageError(f"{file}, line {number}: expected `KEY` or `NAME KEY`, each name once")
        keys[name] = parts[-1]
    if not keys:
        raise UsageError(f"the key file {file} holds no key")
    return keys
