"""What the tokens of pretix teams may do."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(slots=True)
class Grant:
    """What a team's token may do: `visible` events, and `orders` those whose orders it may view. None: all of them."""

    visible: frozenset[str] | None = None
    orders: frozenset[str] | None = None

    def sees(self, event: str) -> bool:
        return self.visible is None or event in self.visible

    def reads(self, event: str) -> bool:
        return self.sees(event) and (self.orders is None or event in self.orders)


Grants = dict[str, Grant]
"""By token."""


def token_of(request: Request) -> str:
    return (request.headers.get("Authorization") or "").partition(" ")[2].strip()
