"""Invented persons: plain, accented (composed and decomposed), non-Latin, with emoji and with awkward addresses."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass

_FIRST = [
    "Ada",
    "Amara",
    "Anaïs",
    "Björn",
    "Carlos",
    "Chidi",
    "Chloë",
    "Dagmar",
    "Emeka",
    "Fatima",
    "Grace",
    "Hiro",
    "İrem",
    "Jürgen",
    "Kwame",
    "Léa",
    "Łukasz",
    "Mai",
    "Noor",
    "Olga",
    "Priya",
    "Quentin",
    "Rosa",
    "Siobhán",
    "Søren",
    "Tomás",
    "Uma",
    "Vera",
    "Wei",
    "Xavier",
    "Yara",
    "Zoë",
    "愛",
    "민준",
    "Юлия",
    "أمل",
    "שרה",
]
_LAST = [
    "Abara",
    "Ångström",
    "Brontë",
    "Čapek",
    "D'Angelo",
    "Díaz",
    "Eriksson",
    "Fernández",
    "Gómez",
    "Haddad",
    "Ibáñez",
    "Johansson",
    "Kowalski",
    "Lindqvist",
    "Müller",
    "Nguyễn",
    "O'Brien",
    "Okafor",
    "Peña",
    "Quispe",
    "Røed",
    "Smith-Jones",
    "Şahin",
    "Tanaka",
    "Ueda",
    "Vögel",
    "Williams",
    "Xu",
    "Yılmaz",
    "Żak",
    "李",
    "김",
]
_EMOJI = ("🎟️", "🎉", "𝒵", "👩‍🚀")
_DOMAINS = ("example.com", "example.org", "mail.example.com", "Example.COM", "post.example.org")


@dataclass(frozen=True, slots=True)
class Person:
    first: str
    last: str
    email: str
    phone: str
    note: str

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


def person(rng: random.Random, number: int, canary: str) -> Person:
    """The person with this number. Every twentieth carries the canary, if there is one, in each personal value."""
    if canary and number % 20 == 7:
        local = re.sub(r"[^a-z0-9]+", "", canary.lower()) or "canary"
        return Person(
            f"{canary}",
            f"{canary}-{number}",
            f"{local}.{number}@example.com",
            f"+1 555 {canary} {number}",
            f"ask {canary} {number}",
        )
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    local = _local_part(first, last, number)
    domain = rng.choice(_DOMAINS)
    style = rng.random()
    if style < 0.08:
        first, last = unicodedata.normalize("NFD", first), unicodedata.normalize("NFD", last)
    elif style < 0.12:
        first = f"{first} {rng.choice(_EMOJI)}"
    elif style < 0.14:
        last = f"  {last} "
    if rng.random() < 0.08:
        local = f"{local}+events"
    if rng.random() < 0.05:
        local = local.title()
    phone = rng.choice(("", f"+49 30 {rng.randrange(10**6, 10**7)}", f"+1-555-{rng.randrange(1000, 9999)}"))
    return Person(first, last, f"{local}@{domain}", phone, rng.choice(("none", "vegan", "gluten-free 🌾", "")))


def _local_part(first: str, last: str, number: int) -> str:
    if last == "O'Brien":
        return f"o'brien.{number}"
    ascii_name = unicodedata.normalize("NFKD", f"{first}.{last}").encode("ascii", "ignore").decode().lower()
    letters = re.sub(r"[^a-z.]+", "", ascii_name).strip(".")
    return f"{letters or 'guest'}.{number}"
