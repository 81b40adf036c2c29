"""Addresses of servers, as users write them: of models, judges and sandboxes."""

from thor_tir.errors import UsageError


def is_address(name: str) -> bool:
    """True if a model's name is where it is served; `engines/openai_api/policy.py` speaks to it there."""
    return name.startswith(("http://", "https://"))


def check_address(address: str, *, example: str = "http://10.0.0.5:8000/v1") -> str:
    """The address without a slash at its end.

    Raises UsageError, which shows the example, for one that is no plain HTTP address.
    """
    import httpx

    try:
        parts = httpx.URL(address)
        is_fine = parts.scheme in ("http", "https") and bool(parts.host) and parts.port != 0
    except httpx.InvalidURL:
        is_fine = False
    if not is_fine or parts.userinfo or parts.query or parts.fragment:
        raise UsageError(f"{address!r} is no plain http:// or https:// address; write e.g. {example}")
    return address.rstrip("/")
