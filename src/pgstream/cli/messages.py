"""What is said to the person at the terminal."""

from __future__ import annotations

import click

from ..redaction import redact_unknown
from ..visible import visible


def say(text: str) -> None:
    """Say something, on standard error."""
    click.echo(f"pgstream: {presentable(text)}", err=True)


def presentable(text: str) -> str:
    """Return ``text`` without what a terminal would act on, and without the password of a DSN that
    was given as the name of a slot, say."""
    return visible(redact_unknown(text))
