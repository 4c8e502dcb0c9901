"""Addresses of NATS servers."""

from __future__ import annotations

import pytest

from greenroom.brokers.nats_address import NatsAddress, nats_address


def read(
    text: object, *, ca_file: str | None = None, credentials: str | None = None
) -> NatsAddress:
    return nats_address("url", text, subject=True, ca_file=ca_file, credentials=credentials)


def test_b452_an_address_names_servers_a_subject_and_who_one_is() -> None:
    """A port that is not said is 4222; what is written in percent is read."""
    plain = read("nats://broker/work.one")
    assert plain.servers == ("nats://broker:4222",)
    assert (plain.subject, plain.tls, plain.user, plain.token) == ("work.one", False, None, None)
    full = read("tls://me:p%40ss%2Fw@a:1,[::1]:2,c/w?ca=/ca.pem&cert=/c&key=/k&inbox=_I.me")
    assert full.servers == ("tls://a:1", "tls://[::1]:2", "tls://c:4222")
    assert (full.user, full.password, full.tls) == ("me", "p@ss/w", True)
    assert (full.ca, full.cert, full.key, full.inbox) == ("/ca.pem", "/c", "/k", "_I.me")
    assert read("nats://t0ken@a/w").token == "t0ken"
    assert read("nats://a/w?creds=me.creds").creds == "me.creds"
    assert read("tls://a/w", ca_file="/ca", credentials="/me").creds == "/me"
    assert nats_address("url", "nats://a", subject=False).subject == ""


def test_b452_an_address_is_shown_without_its_secrets() -> None:
    """Neither its text nor its repr has them."""
    for text in ("nats://me:secret@a,b:5/w", "nats://secret@a,b:5/w"):
        address = read(text)
        assert address.shown == "nats://a:4222,b:5/w"
        assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (7, "must be a str"),
        ("http://secret@a/w", r"must be nats://"),
        ("nats://", r"must be nats://"),
        ("nats://a", "must name a subject"),
        ("nats://me:secret,b@a b/w", "in percent"),
        ("nats://a:0/w", "ports from 1 to 65535"),
        ("nats://a:70000/w", "ports from 1 to 65535"),
        ("nats://:secret@a/w", "user:password or a token"),
        ("nats://me:@a/w", "user:password or a token"),
        ("nats://a/w..x", "must name a subject"),
        ("nats://a/w.*", "must name a subject"),
        ("nats://a/$SYS.x", "must name a subject"),
        ("nats://a/w x", "must name a subject"),
        ("nats://a/" + "w" * 201, "must name a subject"),
        ("nats://a/w?secret=1", "at most once"),
        ("nats://a/w?creds=1&creds=2", "at most once"),
        ("nats://a/w?creds=", "a value for creds="),
        ("nats://a/w?inbox=a.*", "inbox= that is a subject"),
        ("nats://secret@a/w?creds=x", "either a user or creds="),
        ("tls://a/w?cert=x", "both of cert= and key="),
        ("nats://a/w?ca=x", "begin with tls://"),
    ],
)
def test_b452_what_is_no_address_is_refused_at_once(text: object, rule: str) -> None:
    """By the field and the rule, and without what may be a secret."""
    with pytest.raises((TypeError, ValueError), match=rf"^url .*({rule})") as refused:
        read(text)
    assert "secret" not in str(refused.value)


def test_b452_a_subject_is_refused_where_none_belongs_and_a_file_that_is_given_twice() -> None:
    """The servers of shared state have none."""
    with pytest.raises(ValueError, match="must name no subject"):
        nats_address("url", "nats://a/w", subject=False)
    with pytest.raises(ValueError, match="ca_file must not be given beside ca= in url"):
        read("tls://a/w?ca=/x", ca_file="/y")


def test_b452_an_address_of_a_websocket_only_where_that_goes() -> None:
    """With a path; its port is the one of the web."""
    found = nats_address("url", "ws://me:p@a,b:1/x?inbox=_I", subject=False, websocket=True)
    assert found.servers == ("ws://a:80/x", "ws://b:1/x")
    assert (found.user, found.tls, found.inbox, found.subject) == ("me", False, "_I", "")
    safe = nats_address("url", "wss://a?ca=/ca.pem", subject=False, websocket=True)
    assert (safe.servers, safe.tls, safe.ca) == (("wss://a:443",), True, "/ca.pem")
    with pytest.raises(ValueError, match=r"^url must be nats://"):
        nats_address("url", "ws://a", subject=False)
    for odd in ("ws://secret/x@a", "ws://a/x y"):
        with pytest.raises(ValueError, match=r"^url must have a path without") as refused:
            nats_address("url", odd, subject=False, websocket=True)
        assert "secret" not in str(refused.value)
