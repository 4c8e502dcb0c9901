"""Which values of the environment are keys, and texts without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from greenroom.kinds import secrets
from greenroom.kinds.pool_file import read_pool_file
from greenroom.kinds.secrets import SHORTEST_SECRET, without_secrets
from greenroom.messages.errors import summary
from greenroom.messages.pickling import LONGEST_LINE


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is noted here is forgotten behind the test."""
    monkeypatch.setattr(secrets, "_named", set())


@pytest.mark.parametrize("name", ["MYAPIKEY", "PGPASSWORD", "A_TOKEN_B", "client_secret", "KEYS"])
def test_a_variable_of_that_name_holds_a_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the word stands in it."""
    monkeypatch.setenv(name, "hunter2-hunter2")
    assert without_secrets("not hunter2-hunter2!") == "not ***!"


def test_what_is_short_or_of_another_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short value would be found in ordinary words."""
    monkeypatch.setenv("A_KEY", "short")
    monkeypatch.setenv("LLM_CRED", "hunter2-hunter2")
    assert without_secrets("short hunter2-hunter2") == "short hunter2-hunter2"


def test_a_key_that_holds_another_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest comes first."""
    monkeypatch.setenv("A_KEY", "hunter2")
    monkeypatch.setenv("B_KEY", "hunter2-hunter2")
    assert without_secrets("hunter2-hunter2, hunter2") == "***, ***"


@pytest.mark.parametrize("said", ["not {}", "not {}, but another key", "not {})"])
def test_a_key_that_was_cut_off_is_hidden_too(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error is where it says much, wherever that is in the key."""
    key = "hunter2-hunter2"
    monkeypatch.setenv("A_KEY", key)
    for room in range(SHORTEST_SECRET, len(key) + 1):
        cut = summary(ValueError("x" * (LONGEST_LINE - room) + key))
        told = without_secrets(said.format(cut))
        assert "***" in told
        assert "hunter" not in told


def test_a_file_says_which_variables_hold_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be its member made or not."""
    pytest.importorskip("openai")
    monkeypatch.setenv("LLM_CRED", "hunter2-hunter2")
    file = tmp_path / "pool.toml"
    file.write_text(
        '[[members]]\nname = "gpt"\nkind = "openai"\nmodel = "m"\napi_key_env = "LLM_CRED"\n'
    )
    assert without_secrets("hunter2-hunter2") == "hunter2-hunter2"
    read_pool_file(file)
    assert without_secrets("hunter2-hunter2") == "***"
