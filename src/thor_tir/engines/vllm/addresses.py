"""Addresses of running engines: as words, or in the file that `thor engine up` writes."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from thor_tir.address import check_address, is_address
from thor_tir.errors import UsageError

EXAMPLE = "http://127.0.0.1:8100"


def addresses_of(named: Sequence[str]) -> list[str]:
    """The addresses that words and files name. Raises UsageError for what is neither, and for none."""
    found: list[str] = []
    for name in named:
        lines = [name] if is_address(name) else _lines(Path(name))
        found += [check_address(line, example=EXAMPLE) for line in lines]
    if len(set(found)) < len(found):
        raise UsageError(f"an engine's address stands twice among {', '.join(found)}")
    return found


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} is neither an address like {EXAMPLE} nor a file of such") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise UsageError(f"{file} holds no address")
    return lines


def refuse_two_models(address: str) -> NoReturn:
    """Raise UsageError for a server that two models would be sampled from."""
    raise UsageError(
        f"the engine at {address} holds one model, and this command samples from two: name servers of the other one "
        "too (--engine.critic-address), or leave out --engine.address, so that each has its own"
    )


def is_public(address: str) -> bool:
    """True for an address that machines outside a private network may reach, a name that cannot be resolved included.

    0.0.0.0 and :: stand for every address of a machine, so they are public too.
    """
    host = urlsplit(address).hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return not all(_is_private(ipaddress.ip_address(each.partition("%")[0])) for each in found)


def _is_private(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not ip.is_unspecified and (ip.is_private or ip.is_loopback or ip.is_link_local)
