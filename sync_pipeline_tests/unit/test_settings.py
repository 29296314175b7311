"""What stands in YAML does something, or is refused with one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from dagster._core.definitions.utils import is_valid_owner

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


def granted(**keys: Any) -> dict[str, Any]:
    return {"token_env": None, "auth": {"grant": {"path": "/t", **keys}}}


CLIENT = {"client_id_env": "I", "client_secret_env": "S"}
A_YEAR = r"Input should be less than or equal to 31622400; correct the YAML"


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
    (REST, {"auth": {"grant": {"kind": "refresh_token", "path": "/t", **CLIENT}}}, "token_env: auth.grant gets the token"),
    (REST, granted(kind="client_credentials"), "kind client_credentials also needs client_id_env, client_secret_env; correct"),
    (REST, granted(kind="client_credentials", client_auth="none"), "also needs client_id_env; correct"),
    (REST, granted(kind="refresh_token", client_id_env="I"), "kind refresh_token also needs client_secret_env; correct"),
    (REST, granted(kind="jwt_bearer", **CLIENT), "auth: grant: kind jwt_bearer also needs subject, audience; correct"),
    (REST, granted(kind="jwt_bearer", subject="s", audience="a"), "also needs client_id_env, client_secret_env; correct"),
    (REST, granted(kind="refresh_token", subject="s", **CLIENT), "grant: subject: it does nothing for kind refresh_token"),
    (REST, granted(kind="client_credentials", grace_s=60, **CLIENT), "grace_s: it does nothing for kind client_credentials"),
    (REST, granted(kind="jwt_exchange", rotates=False, **CLIENT), "rotates: it does nothing for kind jwt_exchange"),
    (REST, granted(kind="refresh_token", base_url="ftp://x", **CLIENT), "auth.grant.base_url: must be an http or https URL"),
    (REST, granted(kind="refresh_token", base_url="not a url", **CLIENT), "auth.grant.base_url: must be an http or https URL"),
    (REST, granted(kind="refresh_token", base_url="http://u:pw@h/", **CLIENT), "auth.grant.base_url: must hold no credentials"),
    (REST, {"handoff_token_env": "H"}, "connection shop: handoff_token_env does nothing without handoff_url; write where"),
    (REST, {"owners": ["bob"]}, "owners.0: must be an e-mail address or a team, like team:events"),
    (REST, {"owners": ["team:events", "team:"]}, "owners.1: must be an e-mail address or a team"),
    (REST, rest(path="https://other.example/x"), "rest.path: must be a path below base_url that begins with one slash, like"),
    (REST, rest(path="//other.example/x"), "rest.path: must be a path below base_url"),
    (REST, rest(path="v1/x"), "rest.path: must be a path below base_url"),
    (REST, rest(path=""), "rest.path: must be a path below base_url"),
    (REST, rest(path="/x#y"), "rest.path: must be a path below base_url"),
    (REST, rest(path="/x?from=https://a"), "rest.path: must be a path below base_url"),
    (REST, rest(overlap_s=1e300), rf"rest.overlap_s: {A_YEAR}"),
    (EVENTBRITE, {"overlap_s": 1e300}, rf"overlap_s: {A_YEAR}"),
    (EVENTBRITE, {"ceiling_s": 1e300}, rf"ceiling_s: {A_YEAR}"),
    (EVENTBRITE, {"floor_s": 1e300, "ceiling_s": 1e300}, rf"floor_s: {A_YEAR}"),
    (EVENTBRITE, {"session_s": 1e300}, rf"session_s: {A_YEAR}"),
    (EVENTBRITE, {"timeout_s": 1e300}, rf"timeout_s: {A_YEAR}"),
    (EVENTBRITE, {"feeds": attendees(target_lag_s=1e300)}, rf"feeds.1.target_lag_s: {A_YEAR}"),
    (EVENTBRITE, {"feeds": attendees(ceiling_s=1e300)}, rf"feeds.1.ceiling_s: {A_YEAR}"),
    (EVENTBRITE, {"feeds": attendees(floor_s=1e300, ceiling_s=1)}, rf"feeds.1.floor_s: {A_YEAR}"),
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
    (REST, {"owners": ["team:events", "a.b@example.com"]}),
    (REST, {"handoff_url": "https://us.example/in", "handoff_token_env": "H"}),
    (REST, rest(path="/")),
    (REST, rest(path="/v1/x?type=a,b&c=%20")),
    (EVENTBRITE, {"ceiling_s": 366 * 86_400, "session_s": 366 * 86_400}),
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


@pytest.mark.parametrize("attributes", [[1], "abc", 5])
def test_attributes_that_are_no_mapping_are_one_sentence(attributes: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^defs.yaml: connection \(without a name\): .*; correct the YAML and reload$"
    ):
        ConnectionConfig.parse(attributes, where="defs.yaml")


GRANTS: list[dict[str, Any]] = [
    {"kind": "client_credentials", **CLIENT},
    {"kind": "client_credentials", "client_auth": "none", "client_id_env": "I"},
    {"kind": "refresh_token", "rotates": False, "base_url": "https://id.example/", **CLIENT},
    {"kind": "jwt_bearer", "subject": "s", "audience": "a", "rotates": True, **CLIENT},
    {"preset": "booking", **CLIENT},
]


@pytest.mark.parametrize("keys", GRANTS)
def test_a_grant_that_can_be_had_is_taken(keys: dict[str, Any]) -> None:
    assert setup(REST, **granted(**keys)).connection.auth.grant is not None
    with pytest.raises(
        ConfigurationError, match=r"environment \(SYNC_SHOP_…\): .* token_env: auth.grant gets the token"
    ):
        setup(REST, {"SYNC_SHOP_TOKEN_ENV": "OTHER"}, **granted(**keys))


def test_where_changes_go_may_be_said_by_the_environment_alone() -> None:
    to = {"SYNC_EB_HANDOFF_URL": "https://us.example/in"}
    assert setup(EVENTBRITE, to, handoff_token_env="H").receiver is not None
    with pytest.raises(ConfigurationError, match="handoff_token_env does nothing without handoff_url"):
        setup(EVENTBRITE, {"SYNC_EB_HANDOFF_TOKEN_ENV": "H"})


def test_an_owner_is_what_dagster_takes() -> None:
    for owner in ("bob", "team:", "team:a", "a@b.co", ".a@b.co", "a@b", "a b@c.de", "@b.co", "a@b.co "):
        if is_valid_owner(owner):
            setup(EVENTBRITE, owners=[owner])
        else:
            with pytest.raises(ConfigurationError, match=r"owners\.0"):
                setup(EVENTBRITE, owners=[owner])


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
