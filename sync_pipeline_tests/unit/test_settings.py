"""What stands in YAML does something, or is refused with one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline.components.vendor_connection import VendorConnection
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.runtime import build_setup
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.vendors.config import ConnectionConfig

EVENTBRITE: dict[str, Any] = {
    "name": "eb", "vendor": "eventbrite", "base_url": "https://x.example/v3", "token_env": "T", "organization": "1",
    "feeds": [{"name": "orders"}, {"name": "attendees"}],
}  # fmt: skip
PRETIX: dict[str, Any] = {
    "name": "px", "vendor": "pretix", "base_url": "https://x.example/api/v1", "token_env": "T", "organizer": "o",
    "feeds": [{"name": "orders"}, {"name": "positions"}],
}  # fmt: skip
FEED: dict[str, Any] = {
    "name": "orders", "contract": "sync_pipeline.contracts.mapped:MappedContract", "rest": {"path": "/x"},
    "contract_options": {
        "fields": {"vendor_id": "id", "event_id": "e", "created_at": "c", "modified_at": "m"},
        "status": "s", "statuses": {"a": "COMPLETED"},
    },
}  # fmt: skip
REST: dict[str, Any] = {
    "name": "shop", "vendor": "rest", "base_url": "https://x.example", "token_env": "T",
    "limits": [{"limit": 10, "seconds": 1}], "feeds": [FEED],
}  # fmt: skip


def setup(base: dict[str, Any], env: dict[str, str] | None = None, **changes: Any) -> Setup:
    return build_setup(ConnectionConfig.parse({**base, **changes}, where="defs.yaml"), env or {})


def attendees(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "orders"}, {"name": "attendees", **more}]


def rest(**options: Any) -> dict[str, Any]:
    return {"feeds": [{**FEED, "rest": {"path": "/x", **options}}]}


def paged(kind: str, **keys: Any) -> dict[str, Any]:
    return rest(paging={"kind": kind, **keys})


def held(value: Any) -> dict[str, Any]:
    return {"contract_options": {"hold_for_parent": value}}


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (EVENTBRITE, {"organizer": "o"}, "organizer: it does nothing for eventbrite, it is a key of pretix; take it out"),
    (EVENTBRITE, {"auth": {"kind": "bearer"}}, "auth: it does nothing for eventbrite, it is a key of rest"),
    (EVENTBRITE, {"rate_headers": {"remaining": "x-left"}}, "rate_headers: it does nothing for eventbrite"),
    (EVENTBRITE, {"feeds": [{"name": "orders", "rest": {"path": "/x"}}]}, "`rest` of orders does nothing for eventbrite"),
    (PRETIX, {"organization": "1"}, "organization: it does nothing for pretix, it is a key of eventbrite"),
    (PRETIX, {"auth": {"kind": "none"}}, "auth: it does nothing for pretix"),
    (REST, {"events": ["a"]}, "events: it does nothing for rest, it is a key of eventbrite and pretix"),
    (REST, {"organization": "1"}, "organization: it does nothing for rest"),
    (REST, {"organizer": "o"}, "organizer: it does nothing for rest"),
    (EVENTBRITE, {"organization": " "}, "organization: must be an id or a slug"),
    (EVENTBRITE, {"organization": "1 2"}, "organization: must be an id or a slug"),
    (EVENTBRITE, {"events": [""]}, r"events.0: must be an id or a slug"),
    (PRETIX, {"events": ["conf", "a/b"]}, r"events.1: must be an id or a slug"),
    (PRETIX, {"organizer": "o/../x?y"}, "organizer: must be an id or a slug"),
    (PRETIX, {"organizer": ".."}, "organizer: must be an id or a slug"),
    (REST, {"auth": {"kind": "bearer", "prefix": "Token "}}, "auth: prefix: kind bearer has none, only header"),
    (REST, {"auth": {"kind": "bearer", "name": "X-Api-Key"}}, "auth: name: kind bearer has none, only header and query"),
    (REST, {"auth": {"kind": "query", "name": "key", "prefix": "a"}}, "auth: prefix: kind query has none"),
    (REST, {"auth": {"kind": "query"}}, "auth: name: kind query needs the name of the parameter"),
    (REST, {"auth": {"kind": "none", "grant": {"kind": "refresh_token", "path": "/t"}}}, "kind none sends no token"),
    (REST, {"auth": {"grant": {"kind": "refresh_token", "path": "/t", "mint_limit":
                               {"limit": 5, "seconds": 9, "kind": "fixed"}}}}, "auth.grant: mint_limit: it is a sliding one"),
    (EVENTBRITE, {"feeds": attendees(**held("false"))}, "hold_for_parent must be true or false, without quotes"),
    (EVENTBRITE, {"feeds": attendees(**held(1))}, "hold_for_parent must be true or false"),
    (EVENTBRITE, {"feeds": [{"name": "attendees", **held(True)}]}, "attendees wait for those of orders, and no enabled feed"),
    (EVENTBRITE, {"feeds": [{"name": "orders", "enabled": False}, {"name": "attendees", **held(True)}]}, "enable orders"),
    (EVENTBRITE, {"feeds": [{"name": "orders", **held(True)}]}, "hold_for_parent does nothing for orders"),
    (EVENTBRITE, {"feeds": attendees(floor_s=1000, ceiling_s=10)}, "1000 is above its ceiling_s, which is 10"),
    (EVENTBRITE, {"feeds": attendees(floor_s=1000)}, "floor_s of attendees: 1000 is above its ceiling_s, which is 900"),
    (EVENTBRITE, {"ceiling_s": 60, "feeds": attendees(floor_s=61)}, "61 is above its ceiling_s, which is 60"),
    (EVENTBRITE, {"floor_s": 61, "ceiling_s": 60}, "floor_s: 61 is above ceiling_s, which is 60"),
    (EVENTBRITE, {"feeds": attendees(contract="os.path:join")}, "'os.path:join' is no contract: it is not made with tiers"),
    (EVENTBRITE, {"feeds": attendees(contract="builtins:dict")}, "'builtins:dict' is no contract"),
    (EVENTBRITE, {"feeds": attendees(contract="sync_pipeline.contracts.registration:RegistrationContract")},
     "RegistrationContract' is no contract: it is not made with tiers and hold_for_parent"),
    (REST, {"feeds": [{**FEED, "rest": {"path": "/x", "modified": {"field": "a", "parm": "b"}}}]},
     "unknown key `feeds.0.rest.modified.parm`; known keys there are: field, format, param$"),
    (REST, {"feeds": [{**FEED, "rest": {"path": "/x", "paging": {"kind": "cursor", "tokn": "b"}}}]},
     "known keys there are: drift_guard, first_page"),
    (REST, {"feeds": [{**FEED, "rest": {"path": "/x", "pages": 1}}]}, "known keys there are: conditional, modified, overlap_s"),
    (REST, paged("none", param="p"), "paging: param: it does nothing for kind none, it is a key of cursor, continuation, page"),
    (REST, paged("none", short_page_ends=True), "paging: short_page_ends: it does nothing for kind none"),
    (REST, paged("next_link", param="p"), "paging: param: it does nothing for kind next_link"),
    (REST, paged("cursor", first_page=0), "first_page: it does nothing for kind cursor, it is a key of page_number; take it"),
    (REST, paged("cursor", key="n"), "key: it does nothing for kind cursor, it is a key of page_number, offset, keyset; take it"),
    (REST, paged("keyset", param="p", drift_guard=0), "drift_guard: it does nothing for kind keyset, it is a key of offset"),
    (REST, paged("page_number", param="p", token="t"), "token: it does nothing for kind page_number"),
    (REST, paged("offset", param="p", token_may_be_absent=True), "token_may_be_absent: it does nothing for kind offset"),
    (REST, paged("continuation", has_more="m", short_page_ends=True), "short_page_ends: it does nothing for kind continuation"),
    (REST, paged("keyset"), "paging: param: kind keyset needs it; write what the vendor's documentation calls it; correct"),
    (REST, paged("page_number"), "paging: param: kind page_number needs it"),
    (REST, paged("offset"), "paging: param: kind offset needs it"),
    (REST, paged("continuation"), "paging: has_more: kind continuation needs it"),
    (REST, paged("cursor", token=""), "paging.token: String should have at least 1 character"),
    (REST, paged("cursor", param=""), "paging.param: String should have at least 1 character"),
    (REST, paged("keyset", param="p", key=""), "paging.key: String should have at least 1 character"),
    (REST, paged("cursor", has_more=""), "paging.has_more: String should have at least 1 character"),
    (REST, rest(page_size_param=""), "page_size_param: String should have at least 1 character"),
    (REST, rest(modified={"field": ""}), "modified.field: String should have at least 1 character"),
    (REST, rest(modified={"field": "m", "param": ""}), "modified.param: String should have at least 1 character"),
    (REST, {"limits": [{"limit": 10, "seconds": 1, "per": 1}]}, "known keys there are: burst, kind, limit"),
    (REST, {"endpoint_limits": [{"endpoint": "/x", "limits": [{"limit": 10, "seconds": 1, "per": 1}]}]}, "burst, kind, limit"),
    (REST, {"auth": {"grant": {"kind": "refresh_token", "path": "/t", "mint_limit": {"limit": 5, "seconds": 9, "per": 1}}}},
     "known keys there are: burst, kind, limit"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "changes", "sentence"), WRONG)
def test_what_would_do_nothing_is_one_sentence(base: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        setup(base, **changes)
    assert "\n" not in str(caught.value)


RIGHT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (EVENTBRITE, {"organizer": None, "events": ["1", "2"]}),
    (EVENTBRITE, {"organization": None, "events": ["1"]}),
    (PRETIX, {"events": ["Conf-2026", "a.b_c"]}),
    (REST, {"auth": {"kind": "bearer", "name": "Authorization", "prefix": ""}}),
    (REST, {"auth": {"kind": "header", "prefix": "Key "}}),
    (REST, {"auth": {"kind": "query", "name": "key"}, "events": [], "organization": None}),
    (REST, {"auth": {"kind": "none"}}),
    (REST, paged("none", has_more="m")),
    (REST, paged("next_link", param="cursor", first_page=1, has_more=None)),
    (REST, paged("cursor", short_page_ends=True)),
    (REST, paged("continuation", has_more="m", token="t", param="p")),
    (REST, paged("page_number", param="cursor", first_page=0, key="n")),
    (EVENTBRITE, {"feeds": attendees(**held(True))}),
    (EVENTBRITE, {"feeds": [{"name": "attendees", **held(False)}]}),
    (EVENTBRITE, {"feeds": attendees(floor_s=10, ceiling_s=10)}),
]


@pytest.mark.parametrize(("base", "changes"), RIGHT)
def test_what_does_something_is_taken(base: dict[str, Any], changes: dict[str, Any]) -> None:
    assert setup(base, **changes).feeds
    assert (
        setup(base, {f"SYNC_{base['name'].upper()}_TOKEN_ENV": "OTHER"}, **changes).connection.auth.secret_env
        == "OTHER"
    )


def test_an_environment_that_does_nothing_is_refused_as_yaml_is() -> None:
    with pytest.raises(ConfigurationError, match=r"environment \(SYNC_SHOP_…\): .* events: it does nothing for rest"):
        setup(REST, {"SYNC_SHOP_EVENTS": "a,b"})


@pytest.mark.parametrize("env", [{}, {"SYNC_EB_TOKEN_ENV": "OTHER"}])
def test_a_ceiling_below_the_default_floor_lowers_it(env: dict[str, str]) -> None:
    wishes = setup(EVENTBRITE, env, feeds=attendees(ceiling_s=2)).feeds["attendees"].wishes
    assert (wishes.floor_s, wishes.ceiling_s) == (2, 2)


@pytest.mark.parametrize("env", [{}, {"SYNC_EB_TOKEN_ENV": "OTHER"}])
@pytest.mark.parametrize(
    ("own", "bounds"),
    [
        ({}, (20, 80)),
        ({"floor_s": 30}, (30, 80)),
        ({"ceiling_s": 40}, (20, 40)),
        ({"ceiling_s": 10}, (10, 10)),
        ({"floor_s": 1, "ceiling_s": 100}, (1, 100)),
    ],
)
def test_a_feed_keeps_to_its_connections_floor_and_ceiling_unless_it_says_its_own(
    env: dict[str, str], own: dict[str, float], bounds: tuple[float, float]
) -> None:
    wishes = setup(EVENTBRITE, env, floor_s=20, ceiling_s=80, feeds=attendees(**own)).feeds["attendees"].wishes
    assert (wishes.floor_s, wishes.ceiling_s) == bounds


@pytest.mark.parametrize("cron", ["every day", "61 3 * * *", "* * *", ""])
def test_a_reconcile_that_is_never_due_is_one_sentence(cron: str) -> None:
    component = VendorConnection(ConnectionConfig.parse({**EVENTBRITE, "reconcile_cron": cron}, where="defs.yaml"))
    with pytest.raises(ConfigurationError, match=r"connection eb: reconcile_cron .* is no cron expression") as caught:
        component.build_defs(None)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
