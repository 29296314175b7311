"""The type of a secret value, apart from where values come from: masking needs the one, transformation neither."""

from __future__ import annotations

from typing import NoReturn

_revealed: set[str] = set()


def revealed() -> frozenset[str]:
    """Values this process has revealed so far: from then on a log line might hold them, so masking must know them."""
    return frozenset(_revealed)


class Secret:
    """A secret value. It shows itself only to `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value, for the one place that sends it; `revealed` knows it from now on."""
        _revealed.add(self._value)
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
