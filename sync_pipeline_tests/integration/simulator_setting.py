"""What the simulator's own tests share: a running one, with a client for each of its three faces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from sync_pipeline.simulator.options import EVENTBRITE_TOKEN, PRETIX_TOKEN, SimulatorOptions
from sync_pipeline.simulator.server import Running, running


@dataclass(frozen=True)
class Setting:
    server: Running
    eventbrite: httpx.Client
    pretix: httpx.Client
    control: httpx.Client

    def rows(self, feed: str) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.control.get(f"/truth/{feed}").json()["rows"]}

    def stats(self, vendor: str) -> dict[str, Any]:
        counts: dict[str, Any] = self.control.get("/stats").json()["vendors"][vendor]
        return counts

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.control.post(path, json=body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def faults(self, **wish: Any) -> dict[str, Any]:
        return self.post("/faults", wish)

    def script(self, kind: str, **more: Any) -> None:
        self.faults(scripts=[{"kind": kind, **more}])

    def advance(self, seconds: float) -> None:
        self.post("/advance", {"seconds": seconds})

    def walk_eventbrite(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """The pages of a list, by continuation."""
        query = dict(params)
        while True:
            page = self.eventbrite.get(path, params=query).json()
            yield page
            if not page["pagination"]["has_more_items"]:
                return
            query["continuation"] = page["pagination"]["continuation"]

    def walk_pretix(self, path: str, **params: Any) -> Iterator[httpx.Response]:
        """The pages of a list, by their `next` links."""
        url, query = path, params or None
        while url:
            answer = self.pretix.get(url, params=query)
            yield answer
            url, query = answer.json()["next"], None


@contextlib.contextmanager
def setting(**options: Any) -> Iterator[Setting]:
    """A small world, unless asked otherwise."""
    small = {"eventbrite_orders": 240, "pretix_orders": 240, "seed": 11}
    with (
        running(SimulatorOptions(**{**small, **options})) as server,
        httpx.Client(
            base_url=server.eventbrite_url, headers={"Authorization": f"Bearer {EVENTBRITE_TOKEN}"}, timeout=20
        ) as eventbrite,
        httpx.Client(
            base_url=server.pretix_url, headers={"Authorization": f"Token {PRETIX_TOKEN}"}, timeout=20
        ) as pretix,
        httpx.Client(base_url=f"{server.url}/_sim", timeout=20) as control,
    ):
        yield Setting(server, eventbrite, pretix, control)
