"""What the audit log says of a request, and what it never holds."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from served_scripts import ANSWER, CALL, CHAT, HeldSandbox, LevelledSandbox, Running, serving, with_server
from thor_tir.errors import UsageError
from thor_tir.serving.audit import AuditLog

KEY = "0123456789abcdef-key"


def test_the_audit_log_says_who_ran_which_program_under_which_limits_and_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def main() -> None:
        log = AuditLog(path)
        async with serving(
            {"secret one": [CALL, ANSWER], "secret two": [CALL]},
            sandbox=LevelledSandbox(),
            keys={"ann": KEY},
            audit=log,
        ) as running:
            keyed = {"authorization": f"Bearer {KEY}"}
            reply = await running.ask("secret one", headers=keyed, max_tokens=777)
            await running.ask("secret two", headers=keyed, thor={"attempts": 99})
            await running.ask("secret three")
        log.close()
        first, second, third = map(json.loads, path.read_text().splitlines())
        assert first["id"] == reply.headers["x-request-id"]
        assert (first["client"], first["status"], first["route"]) == ("ann", 200, CHAT)
        assert first["options"]["rollout"]["max_completion_length"] == 777
        (ran,) = first["programs"]
        assert (ran["sha256"], ran["status"]) == (hashlib.sha256(b"print(77)\n").hexdigest(), "ok")
        assert first["tokens"]["model"] > 0
        assert (second["client"], second["status"], second["programs"]) == ("ann", 400, [])
        assert (third["client"], third["status"]) == ("", 401)

    asyncio.run(main())
    text = path.read_text()
    assert not any(word in text for word in ("secret", "print(", "boxed", KEY))
    assert path.stat().st_mode & 0o077 == 0


def test_a_program_that_was_stopped_with_its_request_stands_in_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def work(running: Running) -> None:
        await running.ask()

    log = AuditLog(path)
    with_server([CALL], work, sandbox=HeldSandbox, request_s=0.1, audit=log)
    log.close()
    row = json.loads(path.read_text())
    assert (row["status"], [each["status"] for each in row["programs"]]) == (504, [None])


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        AuditLog(tmp_path)
