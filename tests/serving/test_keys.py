"""Who may ask: keys of the environment and of a file, and this machine alone without any."""

from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.serving.keys import KEYS_VARIABLE, LOCAL, Keys, read_keys
from thor_tir.serving.service import ServeConfig
from thor_tir.web_service import TurnedAway

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
KEYS = Keys({"ann": ANN, "bob": BOB})


@pytest.mark.parametrize(("key", "name"), [(ANN, "ann"), (BOB, "bob")])
def test_a_client_is_known_by_the_name_of_its_key(key: str, name: str) -> None:
    assert KEYS.client({"authorization": f"Bearer {key}"}) == name


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer", "bEARER", "beareR"])
def test_the_scheme_of_a_key_may_stand_in_either_case_and_the_key_may_not(scheme: str) -> None:
    assert KEYS.client({"authorization": f"{scheme} {BOB}"}) == "bob"
    with pytest.raises(TurnedAway):
        KEYS.client({"authorization": f"{scheme} {BOB.upper()}"})


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        ANN,
        f"Basic {ANN}",
        f"Bearer\t{ANN}",
        f"Bearer {ANN} ",
        f"Bearer {ANN[:-1]}",
        "Bearer é€",
    ],
)
def test_whoever_has_no_key_is_turned_away_with_401(given: str) -> None:
    with pytest.raises(TurnedAway) as refused:
        KEYS.client({"authorization": given, "host": "localhost"})
    assert refused.value.status_code == 401
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}
    assert not any(key in str(refused.value) for key in (ANN, BOB))


def test_every_key_is_compared_in_constant_time_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append(key)
        return given == key

    monkeypatch.setattr("thor_tir.serving.keys.hmac.compare_digest", compare)
    KEYS.client({"authorization": f"Bearer {ANN}"})
    assert len(compared) == 2


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1"])
def test_without_keys_this_machine_may_ask(host: str, origin: str | None) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert Keys({}).client(headers) == LOCAL


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8000"},
        {"host": "10.0.0.5:8000"},
        {"host": "localhost@evil.example"},
        {"host": "[bad"},
        {"host": "["},
        {"host": "[x]:1"},
        {"host": ""},
        {"host": "localhost", "origin": "https://evil.example"},
        {"host": "localhost", "origin": "null"},
        {"host": "localhost", "origin": ""},
    ],
)
def test_without_keys_a_forged_name_or_a_foreign_page_is_turned_away(headers: dict[str, str]) -> None:
    with pytest.raises(TurnedAway) as refused:
        Keys({}).client(headers)
    assert refused.value.status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "myhost", ""])
def test_nothing_but_loopback_is_served_without_a_key(host: str) -> None:
    with pytest.raises(UsageError, match="needs a key"):
        ServeConfig(host=host).check_keys(Keys({}))
    ServeConfig(host=host).check_keys(KEYS)


def test_keys_come_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, f"{ANN}, {BOB}")
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\neve {'e' * 20}\n{'f' * 20}\n")
    file.chmod(0o600)
    assert read_keys(file) == {"key 1": ANN, "key 2": BOB, "eve": "e" * 20, "line 4": "f" * 20}
    monkeypatch.delenv(KEYS_VARIABLE)
    assert read_keys(None) == {}


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("a b c\n", 0o600, "line 1: expected"),
        (f"ann {ANN}\nann {BOB}\n", 0o600, "line 2: expected"),
        ("# none\n", 0o600, "holds no key"),
        (f"{ANN}\n", 0o644, "chmod 600"),
        (f"{ANN}\n", 0o620, "chmod 600"),
    ],
)
def test_a_file_that_is_no_key_file_is_refused(tmp_path: Path, text: str, mode: int, words: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UsageError, match=words) as refused:
        read_keys(file)
    assert ANN not in str(refused.value)


@pytest.mark.parametrize("key", ["short", "with a blank 0123456789", "umlaut-ü-0123456789", "line\nend-0123456789"])
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="at least 16 printable ASCII") as refused:
        Keys({"mine": key})
    assert key not in str(refused.value)


def test_a_key_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "none")
