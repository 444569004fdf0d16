"""A wrong field of a file of settings is named in words that an operator knows."""

from typing import Any

import msgspec
import pytest

from lazyfs.core.errors import UsageError
from lazyfs.core.field_faults import shown_fault
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.settings_input import check
from lazyfs.sync import settings as service


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cache_limt": "4G"}, "unknown field cache_limt: did you mean cache_limit?"),
        ({"cache-limit": "4G"}, "unknown field cache-limit: did you mean cache_limit?"),
        ({"token_file": "/t"}, "unknown field token_file: it belongs into another table"),
        ({"zzz": 1}, "unknown field zzz: no field has this name, leave it out"),
        ({"cache_limit": 4}, 'cache_limit: write a text in "quotes", not a whole number'),
        ({"refresh": "often"}, 'refresh: write a number, not a text in "quotes"'),
        ({"suid": "yes"}, 'suid: write true or false, not a text in "quotes"'),
        ({"uid": "anna"}, 'uid: write a whole number, not a text in "quotes"'),
        (
            {"repositories": {"a": {"ulr": "http://o"}}},
            "repositories[...]: unknown field ulr: did you mean url?",
        ),
        ({"repositories": {"a": {}}}, "repositories[...]: the field url is missing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_field_of_a_mount_is_named_with_its_mend(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        check(fields, "--config c.toml")
    assert str(raised.value) == f"--config c.toml: {said}"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service": {"max_delete": 3}}, "service: unknown field max_delete: did you mean max-delete?"),
        (
            {"service": {"platforms": "arm64"}},
            'service.platforms: write a list in [brackets], not a text in "quotes"',
        ),
        (
            {"acknowledged": [{"failure": 1}]},
            'acknowledged[0].failure: write a text in "quotes", not a whole number',
        ),
        ({"notify": 3}, "notify: write a table, not a whole number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_field_of_the_service_is_named_with_its_mend(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(fields, service.Settings)
    assert shown_fault(raised.value, service.Settings) == said


def test_a_fault_of_another_kind_keeps_msgspecs_words() -> None:
    error = msgspec.ValidationError("Invalid date - at `$.acknowledged[0].until`")
    assert shown_fault(error, Settings) == "acknowledged[0].until: Invalid date"
