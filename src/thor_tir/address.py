"""Addresses of servers, as users write them: of models, judges and sandboxes."""

from urllib.parse import urlsplit

from thor_tir.errors import UsageError


def is_address(name: str) -> bool:
    """True if a model's name is where it is served; `engines/openai_api/policy.py` speaks to it there."""
    return name.startswith(("http://", "https://"))


def check_address(address: str, *, example: str = "http://10.0.0.5:8000/v1") -> str:
    """The address without a slash at its end.

    Raises UsageError, which shows the example, for one that is no plain HTTP address.
    """
    try:
        parts = urlsplit(address)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.username is not None or not address.isprintable() or set(address) & set(" ?#\\"):
        raise UsageError(f"{address!r} is no plain http:// or https:// address; write e.g. {example}")
    return address.rstrip("/")
