"""Passwords out of texts: none gets out, and no mask tells what it hides."""

from __future__ import annotations

from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

import pgstream
from pgstream import ConnectionFailed
from pgstream.config import Config
from pgstream.redaction import redact, redact_unknown
from servers import Database


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGSERVICE", "PGHOST", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


def test_every_form_of_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from the environment")
    dsn = "postgresql://me:p%40ss%2fword@db/shop?sslpassword=keykey"
    text = "p@ss/word p%40ss%2Fword p%40ss%2fword keykey from the environment, and no more"
    assert redact(dsn, text) == "*** *** *** *** ***, and no more"
    assert redact(dsn, "from  the\n environment") == "***"  # put on other lines
    assert redact("not a dsn", "I said: not a dsn") == "I said: ***"
    assert redact("password='it\\'s a secret'", "'it\\'s a secret': it's a secret") == "'***': ***"
    monkeypatch.delenv("PGPASSWORD")
    assert redact("host=db", "nothing to hide") == "nothing to hide"


@pytest.mark.parametrize(
    "keyword",
    [
        *("password", "sslpassword", "oauth_client_secret"),
        *("scram_client_key", "scram_server_key"),
    ],
)
def test_every_keyword_that_holds_a_secret(keyword: str) -> None:
    if all(option.keyword != keyword.encode() for option in Conninfo.get_defaults()):
        pytest.skip("this libpq does not know it")
    assert redact(f"host=db {keyword}=s3same", "it is s3same") == "it is ***"
    assert redact_unknown(f"{keyword} = s3same") == f"{keyword} = ***"


@pytest.mark.parametrize(
    "dsn",
    [
        "hostaddr=192.0.2.1 host=db password=192.0.2.1",
        "host=one.example,192.0.2.1 password=192.0.2.1",
        "host=192.0.2.1,one.example password=192.0.2.1",
        "password=192.0.2.1",  # where the environment leads to
    ],
)
def test_where_a_dsn_leads_to_is_shown(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "host" not in dsn:
        monkeypatch.setenv("PGHOST", "192.0.2.1")
    assert redact(dsn, "connection to 192.0.2.1 failed") == "connection to 192.0.2.1 failed"


PASSWORDS = [
    *("a", "5", "'", "*", " ", "@", "ab", "me", "db", "shop", "5433", "user", "password"),
    *("s3same", "!abc", "longer than a word", "shop-5433", "me@db:5433/shop", "p%41", "ü"),
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_where_a_password_stands_as_one_it_is_masked_whatever_it_is(password: str) -> None:
    url = f"postgresql://me:{quote(password, safe='')}@db:5433/shop"
    keywords = make_conninfo("", host="db", port=5433, user="me", dbname="shop", password=password)
    for dsn in (url, keywords):
        shown = redact(dsn, f"it is {url} or {keywords}")
        assert "postgresql://me:***@db:5433/shop" in shown
        assert "password=***" in shown or "password='***'" in shown
        assert "host=db" in shown
    assert redact(url, f"PGPASSWORD={password}") == "PGPASSWORD=***"


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_text_that_does_not_hold_the_password_stays_as_it_is(password: str) -> None:
    """What a reader knows by heart tells him what a mask in it hides."""
    dsn = make_conninfo("", host="db", port=5433, user="me", dbname="shop", password=password)
    text = (
        'connection to server at "db" (127.0.0.1), port 5433 failed: FATAL: password'
        ' authentication failed for user "me", no database "shop": a user without one is all'
    )
    assert redact(dsn, text) == text


@pytest.mark.parametrize(
    ("password", "text", "expected"),
    [
        ("longer one", "xlonger oney", "x***y"),
        ("longer-1", "xlonger-1y", "x***y"),
        ("back\\slash'es", "'back\\\\slash\\'es'", "'***'"),
        ("s3same", "(s3same) s3same's s3sames xs3same", "(***) ***'s s3sames xs3same"),
        ("s3", "password=s3 password=s3same", "password=*** password=s3same"),
        ("!abc", "x!abc", "x***"),
        ("ab", 'ab "ab" abc', 'ab "***" abc'),
        ("shop", "shop shop-2 workshop", "shop shop-2 workshop"),
        ("shop-2024", "shop-2024 of shop", "*** of shop"),
        ("pgstream_slot", 'slot "pgstream_slot"', 'slot "pgstream_slot"'),
        ("pgstream_pub", 'publication "pgstream_pub"', 'publication "pgstream_pub"'),
        ("Orders", 'table "Orders"', 'table "Orders"'),
    ],
)
def test_a_password_by_itself(password: str, text: str, expected: str) -> None:
    dsn = make_conninfo("", host="db", user="me", dbname="shop", password=password)
    assert Config(dsn=dsn, tables=["Orders"]).redact(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at postgresql://me:s3same@h/d, no", "at postgresql://me:***@h/d, no"),
        ("postgresql://:a b@c@h", "postgresql://:***@h"),
        ("postgresql://me@h:5432/d", "postgresql://me@h:5432/d"),
        ("postgresql://me@server:s3same@server/d", "postgresql://me@server:***@server/d"),
        ("host=h Password = 'a \\' b' user=me", "host=h Password = *** user=me"),
        ("PGPASSWORD=x oauth_client_secret=y", "PGPASSWORD=*** oauth_client_secret=***"),
        ("scram_client_key=x scram_server_key=y", "scram_client_key=*** scram_server_key=***"),
        ("write postgresql://user:password@host, or 'password=…'",) * 2,
        ("password authentication failed",) * 2,
    ],
)
def test_passwords_of_which_nothing_is_known(text: str, expected: str) -> None:
    assert redact_unknown(text) == expected


@pytest.mark.parametrize("password", ["a", "password", "postgres"])
def test_a_wrong_password_is_told_as_such(database: Database, password: str) -> None:
    """The advice is that of the server's own words, also where the password is one of them."""
    dsn = psycopg.conninfo.make_conninfo(database.tcp_dsn, password=password)
    with pytest.raises(ConnectionFailed, match="check the user and the password") as caught:
        pgstream.connect(dsn)
    assert 'password authentication failed for user "postgres"' in caught.value.message
    assert "***" not in caught.value.message
