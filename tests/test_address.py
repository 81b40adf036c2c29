"""What counts as the address of a server."""

import pytest

from thor_tir.address import check_address
from thor_tir.errors import UsageError


@pytest.mark.parametrize(
    "address",
    ["ftp://x/v1", "http://", "http://user:pw@x/v1", "http://x/v1?key=1", "http://x:0/v1", "http://x:y", "http://a b"],
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(UsageError, match="no plain http"):
        check_address(address)


def test_an_address_loses_the_slash_at_its_end_and_nothing_else():
    assert check_address("https://models.example.org/v1/") == "https://models.example.org/v1"
