"""Registrations of the generic `rest` vendor: every mapping is in YAML."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync_pipeline.contracts import fields
from sync_pipeline.contracts.codes import CODES
from sync_pipeline.contracts.fields import Refused, at
from sync_pipeline.contracts.registration import Mapped, PaymentStatus, Registration, RegistrationContract, Whole
from sync_pipeline.contracts.tiers import Tier, TierMap
from sync_pipeline.kernel.wire import reach

TIER_BY = ("kind", "event_id", "ticket_sku", "ticket_name")
INSTANTS = ("created_at", "modified_at")
FIELDS = frozenset(Registration.model_fields) - {"tier", "payment_status"}


class MappedOptions(BaseModel):
    """How a flat or nested JSON record becomes a registration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: Mapping[str, str] = Field(description="Canonical field to dotted path in the record.")
    constants: Mapping[str, str | int | bool] = Field(
        default_factory=dict, description="Canonical fields that are fixed."
    )
    status: str = Field(description="Dotted path of the payment status.")
    statuses: Mapping[str, PaymentStatus] = Field(description="The vendor's words to ours; any other is quarantined.")
    timestamps: Literal["iso", "epoch"] = "iso"
    known: tuple[str, ...] | None = Field(
        None, description="Further fields that are no drift; default: drift is not reported."
    )


def fault_of_constant(options: MappedOptions, name: str) -> str | None:
    """What the model has against a constant, in words: it would refuse every record for it."""
    value = options.constants[name]
    try:
        if options.timestamps == "epoch" and name in INSTANTS:
            fields.epoch_instant(value)
        else:
            Registration.model_validate({name: value})
    except Refused as refused:
        return CODES[refused.code]
    except ValidationError as error:  # of the fields that are missing here, too
        for detail in error.errors(include_url=False, include_input=False):
            if detail["loc"] == (name,):
                cause = detail.get("ctx", {}).get("error")
                return CODES[cause.code] if isinstance(cause, Refused) else detail["msg"]
    return None


class MappedContract(RegistrationContract):
    """A registration by the mapping in the feed's `contract_options`."""

    def __init__(self, *, tiers: TierMap, options: MappedOptions) -> None:
        self._tiers = tiers
        self._status = options.status
        self._status_path = options.status.split(".")
        self._statuses = dict(options.statuses)
        self._direct = {name: path for name, path in options.fields.items() if "." not in path}
        self._pick = picker(list(self._direct.values()))
        self._nested = [(name, path.split(".")) for name, path in options.fields.items() if "." in path]
        self._constants = {"kind": "attendee", **options.constants}
        self._epoch = options.timestamps == "epoch"
        self._used = set(self._direct.values()) | ({options.status} if "." not in options.status else set())
        digest = hashlib.sha256(orjson.dumps(options.model_dump(), option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
        id_path = options.fields["vendor_id"]
        heads = {parts[0] for _, parts in self._nested} | {self._status_path[0]}
        known = None if options.known is None else frozenset(options.known) | heads
        super().__init__(
            version=f"mapped-4+{digest}+tiers-{tiers.version}",
            mapping=self.map_record,
            identify=lambda record: reach(record, id_path.split(".")),
            paths={**options.fields, "payment_status": options.status},
            known=known,
        )

    def map_record(self, record: Mapping[str, Any]) -> Mapped:
        values: dict[str, Any] = self._constants.copy()
        values.update(zip(self._direct, self._pick(record), strict=True))
        for name, parts in self._nested:
            values[name] = reach(record, parts)
        status = reach(record, self._status_path)
        found = self._statuses.get(status) if type(status) is str else None
        if found is None:
            if status is not None and type(status) is not str:
                raise Refused("WRONG_TYPE", self._status)
            raise Refused("MISSING_FIELD" if status is None else "UNKNOWN_STATUS", self._status)
        values["payment_status"] = found
        values.setdefault("vendor_status", status)
        if "order_id" not in values:
            values["order_id"] = values["vendor_id"]
        values["tier"] = self._tier(*[values.get(name) for name in TIER_BY])
        if self._epoch:
            for name in INSTANTS:
                path = self._paths.get(name, name)
                moment: datetime = at(path, fields.epoch_instant, values.get(name))
                values[name] = moment.isoformat()
        used = self._used
        return Mapped(values, {name: value for name, value in record.items() if name not in used})

    def _columns(self, records: Sequence[Mapping[str, Any]]) -> Whole:
        """What `map_record` gives, for all records at once."""
        nothing = [None] * len(records)
        given: dict[str, Sequence[Any]] = {name: [value] * len(records) for name, value in self._constants.items()}
        fields_of, rest = self._apart(records)
        given.update({name: fields_of.get(path, nothing) for name, path in self._direct.items()})
        for name, parts in self._nested:
            given[name] = [reach(record, parts) for record in records]
        words = fields_of.get(self._status) if len(self._status_path) == 1 else None
        if words is None:
            words = [reach(record, self._status_path) for record in records]
        given["payment_status"] = looked_up(self._statuses, words)
        given.setdefault("vendor_status", words)
        given.setdefault("order_id", given.get("vendor_id", nothing))
        given["tier"] = self._tiers_of(*[given.get(name, nothing) for name in TIER_BY])
        if self._epoch:
            for name in INSTANTS:
                given[name] = [_written(value) for value in given.get(name, nothing)]
        return Whole(given, rest, nothing)

    def _apart(
        self, records: Sequence[Mapping[str, Any]]
    ) -> tuple[Mapping[str, Sequence[Any]], Sequence[Mapping[str, Any]]]:
        """Top-level fields as columns, those at least that are mapped, and what of each record is not."""
        used = self._used
        alike = transposed(records)
        if alike is None:
            picked = zip(*map(self._pick, records), strict=True)
            rest = [{name: value for name, value in record.items() if name not in used} for record in records]
            return dict(zip(self._direct.values(), picked, strict=False)), rest
        names = [name for name in alike if name not in used]
        if not names:
            return alike, [{} for _ in records]
        return alike, [
            dict(zip(names, values, strict=True)) for values in zip(*[alike[name] for name in names], strict=True)
        ]

    def _tiers_of(
        self, kinds: Sequence[Any], events: Sequence[Any], skus: Sequence[Any], titles: Sequence[Any]
    ) -> list[Tier]:
        if titles.count(None) == len(titles):
            titles = skus
        if "order" in kinds or set(map(type, chain(events, skus, titles))) != {str}:
            return list(map(self._tier, kinds, events, skus, titles))
        return self._tiers.tiers(zip(events, skus, titles, strict=True))

    def _tier(self, kind: Any, event: Any, sku: Any, title: Any) -> Tier:
        if kind == "order":
            return Tier.NOT_A_TICKET
        sku = str(sku)
        return self._tiers.tier(str(event), sku, title if type(title) is str else sku)


def _written(epoch: Any) -> str | None:
    """An instant given as a number, None for what is none."""
    try:
        moment: datetime = fields.epoch_instant(epoch)
    except Refused:
        return None
    return moment.isoformat()


def looked_up(words: Mapping[str, PaymentStatus], values: Sequence[Any]) -> list[PaymentStatus | None]:
    """The meaning of each value that is one of the words, None for any other."""
    try:
        return list(map(words.get, values))
    except TypeError:  # lists and objects are no keys
        return [words.get(value) if type(value) is str else None for value in values]


def transposed(records: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]] | None:
    """Records that have the same fields in the same order, as columns; None of any others, and of none."""
    if not records:
        return None
    names = list(records[0])
    if list(map(list, records)).count(names) != len(records):
        return None
    return dict(zip(names, zip(*[record.values() for record in records], strict=True), strict=True))


def picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A function from a record to its values of `names`, None for those it lacks."""
    if len(names) < 2:
        return lambda record: tuple(record.get(name) for name in names)
    quickly = operator.itemgetter(*names)

    def pick(record: Mapping[str, Any]) -> tuple[Any, ...]:
        try:
            found: tuple[Any, ...] = quickly(record)
        except KeyError:
            found = tuple([record.get(name) for name in names])
        return found

    return pick
