"""Contracts by import path, with options from YAML."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from pydantic import ValidationError

from sync_pipeline.contracts.mapped import FIELDS, MappedContract, MappedOptions, fault_of_constant
from sync_pipeline.contracts.tiers import tiers_at
from sync_pipeline.kernel.canonical import Contract
from sync_pipeline.kernel.errors import ConfigurationError

COMMON = ("tiers", "hold_for_parent")


def load_contract(path: str, *, options: Mapping[str, Any], connection: str, vendor: str) -> Contract:
    """The contract at `package.module:Class`. Raises ConfigurationError with one sentence."""
    module, _, name = path.partition(":")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigurationError(
            f"connection {connection}: contract {path!r} cannot be imported; write it as package.module:Class"
        ) from None
    if not isinstance(options.get("tiers"), str | None):
        raise ConfigurationError(
            f"connection {connection}: contract_options.tiers must be the name of a file in mappings/, like tiers.yaml"
        )
    tiers = tiers_at(options.get("tiers"))
    if isinstance(made, type) and issubclass(made, MappedContract):
        return cast(Contract, made(tiers=tiers, options=_mapped(options, connection)))
    unknown = sorted(set(options) - set(COMMON))
    if unknown:
        raise ConfigurationError(
            f"connection {connection}: contract_options has the unknown key {unknown[0]!r}; known keys are: "
            f"{', '.join(COMMON)}"
        )
    hold = options.get("hold_for_parent", False)
    if not isinstance(hold, bool):
        raise ConfigurationError(
            f"connection {connection}: contract_options.hold_for_parent must be true or false, without quotes"
        )
    wanted = {"tiers": tiers, "hold_for_parent": hold}
    try:
        inspect.signature(made).bind(**wanted)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"connection {connection}: {path!r} is no contract: it is not made with tiers and hold_for_parent; name a class"
        ) from None
    return cast(Contract, made(**wanted))


def _mapped(options: Mapping[str, Any], connection: str) -> MappedOptions:
    try:
        found = MappedOptions.model_validate({name: value for name, value in options.items() if name != "tiers"})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"connection {connection}: contract_options.{where}: {first['msg']}") from None
    for part, names in (("fields", found.fields), ("constants", found.constants)):
        if unknown := sorted(set(names) - FIELDS):
            raise ConfigurationError(
                f"connection {connection}: contract_options.{part} has {unknown[0]!r}, which no registration has; known are: "
                f"{', '.join(sorted(FIELDS))}"
            )
    for needed in ("vendor_id", "modified_at", "created_at", "event_id"):
        if needed not in found.fields and needed not in found.constants:
            raise ConfigurationError(f"connection {connection}: contract_options.fields needs {needed!r}")
    if "vendor_id" not in found.fields:
        raise ConfigurationError(
            f"connection {connection}: contract_options.fields needs 'vendor_id'; as a constant it would make one record of all"
        )
    _check_constants(found, connection)
    return found


def _check_constants(options: MappedOptions, connection: str) -> None:
    for name, value in options.constants.items():
        if name in options.fields:
            raise ConfigurationError(
                f"connection {connection}: contract_options has {name!r} in fields and in constants; take it out of one of them"
            )
        if fault := fault_of_constant(options, name):
            raise ConfigurationError(
                f"connection {connection}: contract_options.constants.{name} cannot be {value!r}: {fault}"
            )
