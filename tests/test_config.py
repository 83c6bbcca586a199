"""Settings: what is taken, what is refused, and that no password gets out."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from pgstream.cli.environment import load_dotenv
from pgstream.config import (
    Config,
    check_publication,
    parse_table,
    split_names,
    unquote,
)
from pgstream.connector import replication_conninfo
from pgstream.errors import ConfigError
from pgstream.lsn import LSN


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3same@db:5433/shop?replication=database",
        "postgres://me:s3same@db:5433/shop?replication=true",
        "host=db port=5433 dbname=shop user=me password=s3same replication=database",
        "postgresql://me@db:5433/shop?password=s3same",
    ],
)
def test_a_dsn_and_what_may_be_shown_of_it(dsn: str) -> None:
    config = Config(dsn=dsn)
    assert conninfo_to_dict(config.conninfo) == {
        "host": "db",
        "port": "5433",
        "dbname": "shop",
        "user": "me",
        "password": "s3same",
    }
    assert config.safe_dsn == "host=db port=5433 dbname=shop user=me"
    assert "s3same" not in repr(config)
    assert config.redact("what about s3same, eh") == "what about ***, eh"


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "service=shop",
        "postgresql:///shop?host=/tmp",
        "postgresql://%2Ftmp/shop",
        "postgresql://[::1]:5432/shop",
        "postgresql://a:1,b:2/shop?target_session_attrs=any",
        "host=@abstract dbname=shop",
        "postgresql://me:p%40ss%2Fword@db/shop",
        "host=db password='a b\\'c'",
    ],
)
def test_every_kind_of_dsn(dsn: str) -> None:
    assert conninfo_to_dict(Config(dsn=dsn).conninfo) == conninfo_to_dict(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3same@elsewhere@db/shop",
        "postgresql://me:s3same/x@db/shop",
        "postgresql://me:12/s3same@db/shop",
        "postgresql://me:s3same#@db:port/shop",
        "postgresql://me:s3same@db/shop?schema=public",
        "postgresql+psycopg2://me:s3same@db/shop",
        "mysql://me:s3same@db/shop",
        "me:s3same@db",
        "password='s3same",
        "host=db port=s3same",
        "dbname=postgresql://me:s3same@db/shop",
        "host=db password=s3same\0",
        "postgresql://me:sesame%zz@db/shop",
        "postgresql://me:sesame%00@db/shop",
        "postgresql://me:pass/word?sesame=x@db/shop",
        "postgresql://me:pass?sesame@db/shop?x=y",
        "postgresql://me:pass@db/shop?password=x&sesame=y",
        "postgresql://me:pass@db/shop?password=x&sesame",
        "postgresql://[sesame",
        "postgresql://[::1]sesame/shop",
        "host=db password=my sesame",
        "host=db password=my sesame=x",
        "host=my.sesame.net password=my sesame=x",
        "me:pass sesame=x@db",
        "sesame",
        'password=my "sesame" after "x"',
        "postgresql://me:?pass@sesame@db/shop",
        "postgresql://me:12/word?sesame=x@db/shop",
        "postgresql://me:pass@h?sesame=x@db/shop",
        "postgresql://me:s3same\udcff@db/shop",
        "host=db,port=5432,password=sesame",
        "host=db;port=5432;Password=sesame",
        "dbname='host=db password = sesame'",
        "host=db user=me;client_secret=sesame",
    ],
)
def test_a_dsn_that_is_refused_is_not_shown(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(dsn=dsn)
    assert not re.search("s[3e]same", f"{caught.value} {caught.value.args}")
    # Nor what came before it, which some report also where it is suppressed.
    assert caught.value.__context__ is None
    assert caught.value.hint


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("postgresql://me:pw@db/shop?schema=public", "invalid URI query parameter 'schema'"),
        ("postgresql://db:5432/shop?ssl_mode=no", "invalid URI query parameter 'ssl_mode'"),
        ("postgresql://me:pw@db/shop?%73chema=public", "invalid URI query parameter"),
        ("postgresql://me:pw@db/shop?user", 'missing key/value separator "=" in URI query parame'),
        ("postgresql://me:pw%zz@db/shop", "invalid percent-encoded token"),
        ("postgresql://[::1/shop", 'looking for matching "]" in IPv6 host address'),
        ("postgresql://me:pw@db shop", "unexpected spaces"),
        ("host=db hots=db", "invalid connection option 'hots'"),
        ("host=db password=my secret=x", "invalid connection option"),
        ("host=db password=my pw", 'missing "="'),
        ("host=db password='pw", "unterminated quoted string"),
        ("mysql://me:pw@db/shop", "the DSN is the URL of something else than PostgreSQL"),
        ("postgresql+psycopg2://me:pw@db/shop", "the DSN names a driver"),
    ],
)
def test_why_a_dsn_is_refused(dsn: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(dsn=dsn)
    said = caught.value.message
    assert reason in said
    assert "secret" not in said
    assert not said.endswith(":")


def test_not_even_a_letter_of_a_dsn_is_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Config(dsn="postgresql://me:pw@[::1]qw/shop")
    assert caught.value.message == "the DSN cannot be parsed: unexpected character"


@pytest.mark.parametrize("dsn", ["postgresql://me:s3same@db/shop", "password='s3same'"])
@pytest.mark.parametrize("setting", ["slot", "publication", "tables", "streaming", "until", "tap"])
def test_a_dsn_in_the_place_of_another_setting(setting: str, dsn: str) -> None:
    """It is refused here, for it would stand in the server's log as well."""
    with pytest.raises(ConfigError) as caught:
        Config(**{setting: dsn})
    assert "***" in caught.value.message
    assert "s3same" not in f"{caught.value} {caught.value.args}"


def test_a_dsn_that_is_right_though_it_looks_odd() -> None:
    config = Config(dsn="postgresql://me:a?b@db/shop?user=me@work&application_name=password%3Dx")
    assert config.safe_dsn == "host=db dbname=shop user=me@work"
    assert conninfo_to_dict(config.conninfo)["password"] == "a?b"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"slot": ""}, "replication slot"),
        ({"slot": "has space"}, "replication slot"),
        ({"slot": "newline\n"}, "replication slot"),
        ({"slot": "a" * 64}, "replication slot"),
        ({"publication": []}, "no publication"),
        ({"publication": ""}, "publication"),
        ({"publication": "a\0b"}, "publication"),
        ({"publication": ["fine", "ü" * 32]}, "publication"),
        ({"tables": ["a.b.c"]}, "name of a table"),
        ({"tables": ["x" * 64]}, "name of a table"),
        ({"streaming": "sometimes"}, "streaming is 'sometimes'"),
        ({"origin": "here"}, "origin is 'here'"),
        ({"origin": None}, "origin is None"),
        ({"values": "bytes"}, "values is 'bytes'"),
        ({"binary": True, "values": "text"}, "binary transfer"),
        ({"until": "0/1"}, "until is '0/1'"),
        ({"until": 5}, "until is 5"),
        ({"status_interval": 0}, "status_interval is 0"),
        ({"status_interval": float("nan")}, "status_interval is nan"),
        ({"memory_limit": -1}, "memory_limit is -1"),
        ({"reconnect_timeout": -1}, "reconnect_timeout is -1"),
        ({"reconnect_timeout": float("nan")}, "reconnect_timeout is nan"),
        ({"handler_timeout": 0}, "handler_timeout is 0"),
        ({"handler_timeout": float("nan")}, "handler_timeout is nan"),
        ({"silence_timeout": -5}, "silence_timeout is -5"),
        ({"snapshot_jobs": 0}, "snapshot_jobs is 0"),
        ({"snapshot_jobs": 65}, "snapshot_jobs is 65"),
        ({"numeric": "int"}, "numeric is 'int'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**settings)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", [field.name for field in fields(Config) if field.init])
def test_no_setting_takes_just_anything(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is "):
        Config(**{name: object()})


def test_settings_that_can_be() -> None:
    config = Config(
        slot="a_1" + "x" * 60,
        publication=["Odd, one", "ü" * 31, "Odd, one"],
        tables=["a", "b.a", '"x.y"."a""b"', "public.a"],
        until=LSN(5),
        status_interval=0.1,
        reconnect_timeout=0,
        memory_limit=0,
        snapshot_jobs=64,
        state_file=Path("state"),
    )
    assert config.publications == ("Odd, one", "ü" * 31)
    assert config.table_names == (("public", "a"), ("b", "a"), ("x.y", 'a"b'))
    assert Config(publication="a,b", until="now").publications == ("a,b",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("users", ("public", "users")),
        ("Shop.Users", ("Shop", "Users")),
        ('"Shop"."Users"', ("Shop", "Users")),
        ('shop."a.b,c ""d"""', ("shop", 'a.b,c "d"')),
        ('"."', ("public", ".")),
        ("schéma.täble", ("schéma", "täble")),
        ("", None),
        (".", None),
        ("a.", None),
        (".a", None),
        ("a b", None),
        ('"a', None),
        ('""', None),
        ('a"b"', None),
        ('"a"b', None),
        ("a,b", None),
    ],
)
def test_names_of_tables(text: str, expected: tuple[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="not the name of a table"):
            parse_table(text)
    else:
        assert parse_table(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        (" a , b,,c ", ["a", "b", "c"]),
        ('"a,b".c, d', ['"a,b".c', "d"]),
        ('"a"",b",c', ['"a"",b"', "c"]),
        ('"unclosed,c', ['"unclosed', "c"]),
    ],
)
def test_lists_of_names(text: str, expected: list[str]) -> None:
    assert split_names(text) == expected


def test_unquote() -> None:
    assert [unquote(name) for name in ("a", '"a"', '"a""b"', 'a"', '""', '"')] == [
        *("a", "a", 'a"b', 'a"', '""', '"')
    ]


def test_a_publication_may_have_63_bytes() -> None:
    check_publication("x" * 63)
    with pytest.raises(ConfigError):
        check_publication("x" * 64)


def test_dotenv_fills_in_what_the_environment_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("PGSTREAM_TEST_A", "PGSTREAM_TEST_B")
    (tmp_path / ".env").write_text("".join(f"{name}=dotenv\n" for name in names))
    monkeypatch.setenv(names[0], "environment")
    monkeypatch.setenv(names[1], "")  # so that it is put back afterwards
    monkeypatch.delenv(names[1])
    load_dotenv(tmp_path)
    assert [os.environ[name] for name in names] == ["environment", "dotenv"]
    load_dotenv(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('PGSTREAM_TEST_A=1\n\n\nDATABASE_URL="postgres://me:sesame@db\nSLOT_NAME=x\n', 4),
        ("PGSTREAM_TEST_A=1\r\nDATABASE_URL: sesame\r\n", 2),
        ("# a comment\nSLOT_NAME='x' sesame\n", 2),
        ("\ufeff=sesame", 1),
    ],
)
def test_a_dotenv_with_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    """All of it is refused: without its name, say, another slot would be read."""
    monkeypatch.delenv("PGSTREAM_TEST_A", raising=False)
    (tmp_path / ".env").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(ConfigError) as caught:
        load_dotenv(tmp_path)
    assert caught.value.message == f"{tmp_path}/.env, line {line}: this is not NAME=value"
    assert "sesame" not in str(caught.value)
    assert "PGSTREAM_TEST_A" not in os.environ


def test_tcp_keepalives_are_set_where_the_dsn_leaves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSERVICE", "PGCONNECT_TIMEOUT", "PGOPTIONS"):
        monkeypatch.delenv(name, raising=False)
    made = conninfo_to_dict(replication_conninfo(Config(dsn="host=db keepalives_idle=5")))
    assert made["keepalives_idle"] == "5"
    assert made["keepalives_interval"] == "10"
    assert made["keepalives_count"] == "3"
    assert made["tcp_user_timeout"] == "60000"
    assert made["connect_timeout"] == "10"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in conninfo_to_dict(replication_conninfo(Config(dsn="host=db")))
    made = conninfo_to_dict(replication_conninfo(Config(dsn="service=shop")))
    assert "tcp_user_timeout" not in made  # the service may set it
