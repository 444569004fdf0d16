"""`lazyfs when`: says when an image appears, or since when it is there."""

import os
from typing import Any

import click

from lazyfs.cli.history_source import open_history
from lazyfs.cli.say import say, say_json
from lazyfs.cli.setting_options import setting_options
from lazyfs.cli.store_options import json_option
from lazyfs.core.moments import minute
from lazyfs.core.wishlist.read import Wishlist, read_wishlist
from lazyfs.sync.answers import Answer, Publication, answer
from lazyfs.sync.conditions import ImageCondition
from lazyfs.sync.lists import ListKeeper
from lazyfs.sync.state import State, WisherState, read_state
from lazyfs.sync.status_directory import default_status_directory


@click.command()
@click.argument("image")
@click.argument("store", metavar="STORE|URL")
@click.option("--status-dir", metavar="DIR", help="What the service remembers [default: as of lazyfs sync].")
@json_option
@setting_options("trust", "proxy", "ca", "client_cert", "client_key", "cache")
def command(image: str, store: str, status_dir: str | None, as_json: bool, **settings: Any) -> int:
    """Say since when IMAGE is in the repository, who wishes it, if it waits, and why it failed.

    STORE is the store's directory. On any machine it may be the store's URL; --trust is needed if the machine
    has never mounted the repository. Wishes and failures are known only on the machine that has the service's
    status directory. Exits 0 if the image is there, 1 if not.

    \b
    Examples:
      lazyfs when library/alpine:3.10.2 /srv/unpacked
      lazyfs when library/alpine:3.10.2 http://origin.example/unpacked --trust root.json
    """
    with open_history(store, settings) as source:
        name = source.newest.name
        directory = status_dir or default_status_directory(name)
        state = read_state(directory, name) if os.path.isdir(directory) else None
        found = answer(image, source, state, _lists(directory, state))
    if as_json:
        say_json(_fields(found))
    else:
        say(*_lines(found, None if state else directory))
    return 0 if found.publication else 1


def _lists(directory: str, state: State | None) -> list[Wishlist]:
    keeper = ListKeeper(os.path.join(directory, "lists"))
    kept = ((name, keeper.last_good(name)) for name in (state.lists if state else ()))
    return [read_wishlist(data, name) for name, data in kept if data is not None]


def _lines(found: Answer, no_directory: str | None) -> list[str]:
    lines = [f"{found.image}: {_summary(found)}"]
    if found.publication:
        lines += _published(found.publication)
    wishes = found.condition.wishes if found.condition else found.wishes
    lines += [f"  wished in {_wish(one)}" for one in wishes]
    if no_directory:
        lines.append(
            f"  no status directory {no_directory}: wishes and errors are known where the service runs"
        )
    elif not wishes:
        lines.append("  no list wishes it")
    lines += [f"  owner {owner} has {use.text}" for owner, use in found.quotas.items()]
    if found.condition:
        lines += _trouble(found.condition)
    return lines


def _summary(found: Answer) -> str:
    if found.publication:
        return "published"
    if found.condition and found.condition.error:
        return "failed"
    if found.condition and found.condition.queued:
        return f"waiting, number {found.condition.queued} in the queue"
    return "waiting for the next run" if found.wishes else "not published"


def _published(found: Publication) -> list[str]:
    since = f"revision {found.revision} of {minute(found.time)}"
    before = "" if found.certain else " or before"
    return [
        f"  visible on workers since {since}{before}",
        *(f"  digest {digest}" for digest in found.digests),
    ]


def _trouble(found: ImageCondition) -> list[str]:
    lines = []
    if found.error:
        times = "once" if found.failures == 1 else f"{found.failures} times"
        what = "a newer version failed" if found.digest else "failed"
        lines.append(f"  {what} {times} since {minute(found.failing_since)}: {found.error}")
        lines.append(f"  next try from {minute(found.next_try)}, or when its tag moves")
    if found.acknowledged:
        lines.append(f"  {found.acknowledged.text}")
    if found.condition == "leaving":
        lines.append("  it leaves the tree when its time of grace is over")
    return lines


def _wish(one: WisherState) -> str:
    owner = f", owner {one.owner}" if one.owner else ""
    return f"{one.list} line {one.line} ({one.wish}){owner}"


def _fields(found: Answer) -> dict[str, Any]:
    published = found.publication
    return {
        "image": found.image,
        "published": published._asdict() if published else None,
        "condition": found.condition,
        "wishes": found.wishes,
        "quotas": found.quotas,
    }
