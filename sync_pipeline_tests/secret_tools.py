"""Where a value could hide: on an error, and in what an object can reach."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

OUTSIDE = (types.ModuleType, types.FrameType, asyncio.AbstractEventLoop, asyncio.Future)
"""Not followed: the interpreter's modules, running frames, and the loop with its tasks lead to everything in a process. What
an object *holds* (attributes, slots, containers, closures, defaults, bound methods, classes) is followed."""


def chain_of(error: BaseException) -> list[BaseException]:
    """The error and all that hangs on it, whether shown or suppressed."""
    found: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and one not in found:
            found.append(one)
            ahead += [one.__cause__, one.__context__]
    return found


def fields_of(error: BaseException) -> str:
    return repr([(one.args, vars(one), getattr(one, "__notes__", None)) for one in chain_of(error)])


def reachable(root: object) -> Iterator[object]:
    """Every object that `root` holds, at any depth, itself included."""
    seen = {id(root)}
    ahead: list[object] = [root]
    while ahead:
        one = ahead.pop()
        yield one
        for other in _held(one):
            if id(other) not in seen and not isinstance(other, OUTSIDE):
                seen.add(id(other))
                ahead.append(other)


def _held(one: object) -> list[Any]:
    if isinstance(one, types.FunctionType):  # all but its globals, which are its module
        function: Callable[..., Any] = one
        return [function.__closure__, function.__defaults__, function.__kwdefaults__, function.__dict__]
    return gc.get_referents(one)
