"""The tables of failures in the documents say what the code does; that of kinds: `test_readme`."""

from __future__ import annotations

from helpers_client_errors import GrpcCode, rpc_error
from helpers_pages import DOCS, lines

from greenroom.actors.reading.classify import classify
from greenroom.actors.reading.error_words import CLOSE_CODES, kind_of_status

DOCUMENT = DOCS / "failures.md"


def kinds(head: str) -> dict[str, str]:
    """A table of two columns, the second a kind."""
    rows = (row.strip("| ").split(" | ") for row in lines(DOCUMENT, head))
    return {first.strip("`"): second.split(",")[0].strip("`") for first, second in rows}


def test_the_table_of_statuses_is_complete() -> None:
    """What has no row is a caller's fault below 500 and an outage from there on."""
    told = kinds("status")
    below, above = told.pop("any other 4xx"), told.pop("any other 5xx")
    for status in range(400, 600):
        expected = told.pop(str(status), below if status < 500 else above)
        assert kind_of_status(status).value == expected, status
    assert not told


def test_the_table_of_grpc_codes_is_complete() -> None:
    """All sixteen."""
    told = kinds("code")
    assert set(told) == set(GrpcCode.__members__) - {"OK"}
    assert told == {code: classify(rpc_error(code)).kind.value for code in told}


def test_the_table_of_close_codes_is_complete() -> None:
    """What has no row is a connection that was cut."""
    told = kinds("close code")
    assert told.pop("any other") == "unavailable"
    assert told == {str(code): kind_of_status(status).value for code, status in CLOSE_CODES.items()}
