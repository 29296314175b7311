"""A vendor for benchmarks: registrations of about 1 kB, serialised once, served as fast as one process can.

`GET /v1/registrations?limit=&cursor=&modified_since=` answers like a usual cursor-paged API, with a `Date` header. For
the harness: `/admin/mutate` (a new version of about 1 % of the records, stamped now), `/admin/reset` (count requests
from zero) and `/admin/stats`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import cast
from urllib.parse import parse_qsl

import orjson
import uvloop

START = datetime(2024, 1, 1, tzinfo=UTC)
STATUSES = ("paid", "pending", "refunded", "cancelled", "comp")
WORDS = [
    "stage",
    "door",
    "usher",
    "foyer",
    "balcony",
    "stalls",
    "matinee",
    "encore",
    "programme",
    "curtain",
    "interval",
    "cloakroom",
    "box",
    "office",
]


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mixed(number: int) -> int:
    """32 well-spread bits of a record's number."""
    return (number * 2654435761) & 0xFFFFFFFF


def record(number: int, version: int, changed_at: datetime | None = None) -> tuple[bytes, str]:
    """One record and its modification stamp; the same for the same arguments."""
    bits = mixed(number)
    created = START + timedelta(seconds=number * 31 % 25_920_000, milliseconds=bits % 1000)
    modified = stamp(changed_at or created + timedelta(seconds=bits % 5_000_000))
    shown = {
        "id": f"reg_{number:010d}{bits:08x}",
        "event_id": f"evt_{bits % 400:04d}",
        "email": f"user{number}.{bits % 9973}@example{bits % 50}.org",
        "first_name": f"Mária{bits % 3000}",
        "last_name": f"Öberg{bits % 7000}",
        "ticket_sku": f"SKU-{('EARLY', 'STD', 'VIP', 'STUDENT')[bits % 4]}-{1 + bits // 4 % 8}",
        "quantity": 1 + bits % 4,
        "unit_price": f"{20 + bits % 300}.{bits % 100:02d}",
        "currency": ("EUR", "USD", "GBP")[bits % 3],
        "payment_status": STATUSES[(bits + version) % 5],
        "created_at": stamp(created),
        "modified_at": modified,
        "checked_in": bool(bits & 1),
        "version": version,
        "notes": " ".join(WORDS[(bits * (place + 3) >> 3) % len(WORDS)] for place in range(44)),
        "metadata": {
            "source": ("web", "box_office", "partner", "import")[bits % 4],
            "utm": {"campaign": f"camp-{bits % 120}", "medium": "email", "content": f"block-{bits % 17}"},
            "device": {"os": ("ios", "android", "windows", "mac")[bits % 4], "ip": f"10.{bits % 256}.{bits >> 8 & 255}.7"},
            "tags": [f"tag{bits % 31}", f"tag{bits % 37}"],
            "answers": [{"question": "diet", "answer": "none"}, {"question": "tshirt", "answer": "SML"[bits % 3]}],
            "referrer": f"https://www.example.org/landing/{bits:08x}?ref={number}",
        },
    }  # fmt: skip
    return orjson.dumps(shown), modified


class World:
    """All records, and the order in which `modified_since` lists them."""

    def __init__(self, size: int) -> None:
        made = [record(number, 0) for number in range(size)]
        self.records = [body for body, _ in made]
        self.stamps = [modified for _, modified in made]
        self.oldest = min(self.stamps)
        self.version = 0
        self.views: dict[str, list[int]] = {}

    def mutate(self) -> int:
        """A new version of about every hundredth record; returns how many."""
        self.version += 1
        now = datetime.now(UTC)
        chosen = [number for number in range(len(self.records)) if (mixed(number) >> 12) % 100 == self.version % 100]
        for number in chosen:
            self.records[number], self.stamps[number] = record(number, self.version, now)
        self.views.clear()
        return len(chosen)

    def page(self, since: str, limit: int, offset: int) -> bytes:
        chosen = self._listed(since)
        part = b",".join([self.records[number] for number in chosen[offset : offset + limit]])
        following = offset + limit
        if following < len(chosen):
            return b'{"data":[%b],"next_cursor":"%d","has_more":true}' % (part, following)
        return b'{"data":[%b],"next_cursor":null,"has_more":false}' % part

    def _listed(self, since: str) -> list[int] | range:
        if since <= self.oldest:
            return range(len(self.records))
        if since not in self.views:
            if len(self.views) > 50:
                self.views.clear()
            found = (number for number, modified in enumerate(self.stamps) if modified >= since)
            self.views[since] = sorted(found, key=lambda number: (self.stamps[number], number))
        return self.views[since]


class Server(asyncio.Protocol):
    """Just enough HTTP/1.1 for GET on a kept connection."""

    requests = 0

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not inherit from it

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            target = self.waiting[:end].split(b" ", 2)[1].decode("latin-1")
            self.waiting = self.waiting[end + 4 :]
            path, _, query = target.partition("?")
            body = self.answer(path, dict(parse_qsl(query)))
            head = (
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                f"date: {formatdate(time.time(), usegmt=True)}\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            self.transport.writelines((head.encode(), body))

    def answer(self, path: str, given: dict[str, str]) -> bytes:
        if path == "/v1/registrations":
            Server.requests += 1
            return self.world.page(
                given.get("modified_since", ""), int(given.get("limit", "100")), int(given.get("cursor", "0"))
            )
        if path == "/admin/mutate":
            return orjson.dumps({"changed": self.world.mutate()})
        if path == "/admin/reset":
            Server.requests = 0
        return orjson.dumps({"requests": Server.requests, "records": len(self.world.records)})


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=0, help="0: any free port; the one taken is printed")
    options.add_argument("--records", type=int, required=True)
    given = options.parse_args()
    world = World(given.records)
    gc.collect()
    gc.freeze()
    server = await asyncio.get_running_loop().create_server(lambda: Server(world), "127.0.0.1", given.port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
