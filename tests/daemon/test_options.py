"""Each option of a mount is defined once: command line, mount helper, TOML file and document agree."""

from pathlib import Path

import click
import msgspec
import pytest

from lazyfs.cli.mount import command
from lazyfs.cli.mount_helper import arguments
from lazyfs.cli.mount_program import given_options
from lazyfs.core.errors import UsageError
from lazyfs.daemon.mount_options import MOUNT_OPTIONS, MountOption, table
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.daemon.settings_input import check

EXAMPLES = {str: "x", int: "5", float: "2.5"}


def value(option: MountOption) -> str:
    """Returns a value that the option takes."""
    return (
        option.choices[-1] if option.choices else "3G" if option.metavar == "SIZE" else EXAMPLES[option.kind]
    )


def test_every_setting_but_what_is_mounted_and_the_tables_is_an_option() -> None:
    fields = {field.name for field in msgspec.structs.fields(Settings)}
    others = fields - {option.field for option in MOUNT_OPTIONS}
    assert others == {"mountpoint", "source", "repositories", "profile"}


@pytest.mark.parametrize("option", MOUNT_OPTIONS, ids=lambda option: option.name)
def test_an_option_reaches_its_setting_from_command_line_and_mount_helper(option: MountOption) -> None:
    given = [] if option.kind is bool else [value(option)]
    typed = ["source", "/mnt", f"--{option.name}", *given]
    assert arguments(["source", "/mnt", "-o", "=".join([option.name, *given])]) == ["mount", *typed]
    parsed = command.make_context("mount", typed).params
    fields = {option.field: parsed[option.field], "source": "source"}
    found = getattr(check(fields, "here"), option.field)
    assert found == (True if option.kind is bool else option.kind(value(option)))
    assert found != getattr(Settings(), option.field)


def test_a_setting_left_out_is_left_to_its_one_default() -> None:
    parsed = command.make_context("mount", ["source", "/mnt"]).params
    assert given_options({option.field: parsed[option.field] for option in MOUNT_OPTIONS}) == {}


@pytest.mark.parametrize(
    "option", [option for option in MOUNT_OPTIONS if option.choices], ids=lambda o: o.name
)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(option: MountOption) -> None:
    with pytest.raises(UsageError, match=f"{option.field} is 'other'.*{option.choices[-1]}"):
        check({option.field: "other", "source": "x"}, "here")
    with pytest.raises(click.BadParameter, match=option.choices[-1]):
        command.make_context("mount", [f"--{option.name}", "other"])


def test_the_document_has_the_table_of_options() -> None:
    page = (Path(__file__).parents[2] / "docs/mounting.md").read_text()
    assert table() in page, f"the table of options in docs/mounting.md should be:\n{table()}"


def test_a_sites_repositories_take_over_proxy_and_certificates() -> None:
    own = {"url": "https://b/x", "proxy": "http://own:1", "client_cert": "/own"}
    given = {
        "proxy": "http://p:3128",
        "ca": "/ca",
        "client_cert": "/cert",
        "client_key": "/key",
        "repositories": {"a": {"url": "https://a/x"}, "b": own, "c": {"url": "/store"}},
    }
    sources = check(given, "here").sources()
    mounts = {"ca": "/ca", "client_cert": "/cert", "client_key": "/key"}
    assert sources["a"] == RepositorySource(url="https://a/x", proxy="http://p:3128", **mounts)
    assert sources["b"] == RepositorySource(url="https://b/x", proxy="http://own:1", client_cert="/own")
    assert sources["c"] == RepositorySource(url="/store", **mounts)
