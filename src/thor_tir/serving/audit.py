"""A log of who asked for what was run here: digests of programs, limits and ends; no text of anybody."""

import hashlib
import json
import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from thor_tir.errors import UsageError
from thor_tir.rollout.overheard import Event, Happening
from thor_tir.storage.journal import JsonObject

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class AuditRecord:
    """One request, while it is in work."""

    id: str
    """Id of the request, which the client gets as well."""
    client: str
    """Name of the key."""
    route: str
    """Path that was asked for."""
    options: JsonObject = field(default_factory=dict)
    """Limits and options that held."""
    programs: list[JsonObject] = field(default_factory=list)
    """Digest, status and seconds of each program; status null for one that was stopped with its request."""
    spent: Counter[str] = field(default_factory=Counter)
    """Tokens that were read and written."""
    began: float = field(default_factory=monotonic)
    """Time at which it began, by the monotonic clock."""

    def note(self, event: Event) -> None:
        """Keep what must be known of a program."""
        if event.kind not in (Happening.CODE, Happening.OUTPUT):
            return
        digest = hashlib.sha256(event.code.encode("utf-8", errors="replace")).hexdigest()
        if event.result is None:
            self.programs.append({"sha256": digest, "status": None, "seconds": None})
            return
        open_ones = (each for each in self.programs if each["sha256"] == digest and each["status"] is None)
        next(open_ones).update(status=event.result.status.value, seconds=round(event.result.seconds, 4))


class AuditLog:
    """A JSONL file to which a line is appended when a request ends; without a file nothing is written."""

    def __init__(self, path: Path | None) -> None:
        """Raises UsageError for a file that cannot be written. Other users may not read it."""
        self._file = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise UsageError(f"the audit log {path} cannot be written: {error}") from error
            self._file = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def write(self, record: AuditRecord, status: int) -> None:
        """Append a request that has ended with an HTTP status. A full disk stops no answer; it is logged."""
        if self._file is None:
            return
        row = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": record.id,
            "client": record.client,
            "route": record.route,
            "status": status,
            "seconds": round(monotonic() - record.began, 3),
            "options": record.options,
            "tokens": dict(record.spent),
            "programs": record.programs,
        }
        try:
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            _LOG.error("the audit log cannot be written: %s", error)
