"""The canonical registration: one row for an order, one for each ticket in it, whatever the vendor.

Text that the vendor did not give is NOT_PROVIDED, a currency XXX, a language `und`, an amount 0: never NULL, so that a
query need not know which vendor leaves what out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import compress
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from sync_pipeline.contracts import columns, fields
from sync_pipeline.contracts.fields import Refused
from sync_pipeline.contracts.metadata import metadata_documents, metadata_of
from sync_pipeline.contracts.tiers import Tier
from sync_pipeline.kernel.canonical import Canonical, Column, Problem, Rejection, instant_text
from sync_pipeline.kernel.feed import RawRecord
from sync_pipeline.kernel.wire import raw_bytes
from sync_pipeline.trust.logger import get_logger

LOG = get_logger(__name__)

PaymentStatus = Literal["PENDING", "COMPLETED", "REFUNDED", "FAILED"]
FUTURE = timedelta(days=1)
"""How far ahead of our clock a modification may be: a stamp from the future would win over every later change."""

CODE_OF_PYDANTIC = {"missing": "MISSING_FIELD", "literal_error": "UNKNOWN_STATUS"}


def checked(check: Callable[[Any], Any]) -> BeforeValidator:
    """A field check as a pydantic validator. Its Refused is found again in the error's context."""
    return BeforeValidator(check)


Text = Annotated[str, checked(fields.text)]
Name = Annotated[str, checked(fields.name)]
Identifier = Annotated[str, checked(fields.identifier)]


class Registration(BaseModel):
    """One registration in canonical form."""

    model_config = ConfigDict(extra="forbid", revalidate_instances="never", hide_input_in_errors=True)

    vendor_id: Identifier
    kind: Literal["order", "attendee"]
    order_id: Identifier
    event_id: Identifier
    email: Annotated[str, checked(fields.email)] = fields.NOT_PROVIDED
    first_name: Name = fields.NOT_PROVIDED
    last_name: Name = fields.NOT_PROVIDED
    phone: Text = fields.NOT_PROVIDED
    ticket_sku: Text = fields.NOT_PROVIDED
    ticket_name: Text = fields.NOT_PROVIDED
    tier: Tier = Tier.UNKNOWN_TIER
    quantity: Annotated[int, checked(fields.quantity)] = 1
    amount: Annotated[Decimal, checked(fields.amount)] = Decimal(0)
    currency: Annotated[str, checked(fields.currency)] = fields.NO_CURRENCY
    payment_status: PaymentStatus
    vendor_status: Text = fields.NOT_PROVIDED
    checked_in: Annotated[bool, checked(fields.flag)] = False
    test_mode: Annotated[bool, checked(fields.flag)] = False
    locale: Annotated[str, checked(fields.language)] = fields.UNDETERMINED
    created_at: Annotated[datetime, checked(fields.instant)]
    modified_at: Annotated[datetime, checked(fields.instant)]


COLUMNS = (
    Column("kind", "text", "`order`, or `attendee` for one ticket's holder"),
    Column("order_id", "text", "Vendor id of the order this row is, or belongs to"),
    Column("event_id", "text", "Vendor id of the event"),
    Column("email", "text", "Address, trimmed and lower-cased", personal=True),
    Column("first_name", "text", "Given name, NFC", personal=True),
    Column("last_name", "text", "Family name, or the whole name where the vendor has but one", personal=True),
    Column("phone", "text", "Telephone number as given", personal=True),
    Column("ticket_sku", "text", "Vendor's key of the ticket kind"),
    Column("ticket_name", "text", "Vendor's name of the ticket kind"),
    Column("tier", "text", "Tier by the mapping in YAML; UNKNOWN_TIER when nothing maps it"),
    Column("quantity", "integer", "Tickets"),
    Column("amount", "numeric", "Gross amount, exact"),
    Column("currency", "text", "ISO 4217; XXX when the vendor does not say"),
    Column("payment_status", "text", "PENDING, COMPLETED, REFUNDED or FAILED"),
    Column("vendor_status", "text", "The vendor's own word"),
    Column("checked_in", "boolean", "Seen at the door"),
    Column("test_mode", "boolean", "Made in the vendor's test mode"),
    Column("locale", "text", "Language of the order, BCP 47"),
    Column("created_at", "timestamptz", "When the vendor made it, UTC"),
    Column("metadata", "jsonb", "Everything else the vendor sent", personal=True),
)
ROW = operator.attrgetter(*(column.name for column in COLUMNS[:-1]))

TEXT = columns.optional(columns.text, fields.NOT_PROVIDED)
FLAG = columns.optional(columns.flag, "f")
CHECKS: Mapping[str, columns.Check] = {
    "kind": columns.one_of(frozenset({"order", "attendee"})),
    "order_id": columns.identifier,
    "event_id": columns.identifier,
    "email": columns.optional(columns.email, fields.NOT_PROVIDED),
    "first_name": TEXT,
    "last_name": TEXT,
    "phone": TEXT,
    "ticket_sku": TEXT,
    "ticket_name": TEXT,
    "tier": columns.one_of(frozenset(Tier)),
    "quantity": columns.optional(columns.quantity, "1"),
    "amount": columns.optional(columns.amount, "0"),
    "currency": columns.optional(columns.currency, fields.NO_CURRENCY),
    "payment_status": columns.one_of(frozenset(get_args(PaymentStatus))),
    "vendor_status": TEXT,
    "checked_in": FLAG,
    "test_mode": FLAG,
    "locale": columns.optional(columns.required, fields.UNDETERMINED),
    "created_at": columns.instant,
}
"""The model's fields in the order of COLUMNS, as whole columns."""


class Mapped(NamedTuple):
    """A vendor's record as input for the model, and what is left of it.

    `paths`: where in the vendor's record canonical fields stand that stand elsewhere than the contract says, for messages.
    """

    values: Mapping[str, Any]
    rest: Mapping[str, Any]
    parent: str | None = None
    paths: Mapping[str, str] = MappingProxyType({})


class Whole(NamedTuple):
    """Input for the model of many records, as columns: a canonical field's value in each record, None where it is missing or
    the mapping would refuse the record. Fields that no record has may be left out."""

    given: Mapping[str, Sequence[Any]]
    rest: Sequence[Mapping[str, Any]]
    parents: Sequence[str | None]


NOTHING = Mapped({}, {})
Gapless = tuple[Sequence[str], Sequence[str], Sequence[Sequence[str]], Sequence[bytes]]
"""Columns that are believed to have a text in every place."""


class RegistrationContract:
    """Checks a vendor's record by its mapping, then by the model."""

    table = "registrations.registration"
    columns: Sequence[Column] = COLUMNS

    def __init__(
        self,
        *,
        version: str,
        mapping: Callable[[Mapping[str, Any]], Mapped],
        identify: Callable[[Mapping[str, Any]], str | None],
        paths: Mapping[str, str],
        known: frozenset[str] | None,
        parent_feed: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.version = version
        self.parent_feed = parent_feed
        self._map = mapping
        self._identify = identify
        self._paths = paths
        self._known = known
        self._now = now
        self._drift: set[str] = set()
        self._faults: set[str] = set()
        """Classes of the exceptions that the contract itself failed with, until they are logged."""

    def check(self, records: Sequence[RawRecord]) -> list[Canonical | Rejection]:
        clean = self._together(records)
        made = [self.alone(record) if found is None else found for record, found in zip(records, clean, strict=True)]
        if self._faults:
            LOG.error("contract failed", contract=self.version, faults=sorted(self._faults))
            self._faults.clear()
        return made

    def _together(self, records: Sequence[RawRecord]) -> list[Canonical | None]:
        """Records that are clean as they stand, as whole columns; None for those that are judged alone: all of them where
        the columns fail."""
        if not records:
            return []
        try:
            values: Sequence[Any]
            values, faults, _ = zip(*records, strict=True)
            if set(map(type, values)) != {dict} or faults.count(None) != len(faults):
                values = [record.value if _is_object(record) else {} for record in records]
            whole = self._columns(values)
            clean = self._clean(whole, len(records))
            self._note([rest for rest, made in zip(whole.rest, clean, strict=True) if made is not None])
        except Exception as fault:
            self._faults.add(type(fault).__name__)
            return [None] * len(records)
        return clean

    def alone(self, record: RawRecord) -> Canonical | Rejection:
        """One record by its mapping and the model: the definition of what is valid, and why another is not.

        What the contract did not expect costs this record only: a feed must not stand still for it.
        """
        if not _is_object(record):
            return Rejection(None, (Problem(record.fault or "NOT_AN_OBJECT", ""),), raw_bytes(record))
        mapped: Mapped | None = None
        try:
            mapped = self._map(record.value)
            model = Registration.__pydantic_validator__.validate_python(mapped.values)
            metadata = metadata_of(mapped.rest)
            if model.modified_at > self._now() + FUTURE:
                raise Refused("TIMESTAMP_OUT_OF_RANGE", self._paths.get("modified_at", "modified_at"))
        except Refused as refused:
            return self._rejected(record, (Problem(refused.code, refused.path),))
        except ValidationError as error:
            return self._rejected(record, self._problems(error, mapped.paths if mapped else {}))
        except Exception as fault:
            self._faults.add(type(fault).__name__)
            return self._rejected(record, (Problem("CONTRACT_FAILED", ""),))
        self._note([mapped.rest])
        row = (*map(as_text, ROW(model)), metadata)
        return Canonical.of(model.vendor_id, instant_text(model.modified_at), row, mapped.parent)

    def _note(self, rests: Sequence[Mapping[str, Any]]) -> None:
        """Remember the fields that the contract does not know."""
        if self._known is not None:
            self._drift.update(set[str]().union(*rests) - self._known)

    def _columns(self, records: Sequence[Mapping[str, Any]]) -> Whole:
        """All records through the mapping."""
        mapped = [self._quickly(record) for record in records]
        given = [one.values for one in mapped]
        names = set[str]().union(*given)
        return Whole(
            {name: [values.get(name) for values in given] for name in names},
            [one.rest for one in mapped],
            [one.parent for one in mapped],
        )

    def _quickly(self, record: Mapping[str, Any]) -> Mapped:
        try:
            return self._map(record)
        except Exception:  # what it is that is wrong is found where the record is judged alone
            return NOTHING

    def _clean(self, whole: Whole, number: int) -> list[Canonical | None]:
        """Records whose every field is clean as it stands; None for those that need the model's judgement."""
        given, absent = whole.given, [None] * number
        ids = columns.identifier(given.get("vendor_id", absent))
        modified = columns.instant(given.get("modified_at", absent))
        values = [check(given.get(name, absent)) for name, check in CHECKS.items()]
        documents = metadata_documents(whole.rest)
        latest = instant_text(self._now() + FUTURE)
        try:
            gapless = cast(Gapless, (ids, modified, values, documents))
            if None not in ids and max(gapless[1], default=latest) <= latest:
                return list(Canonical.many(*gapless, whole.parents))
        except TypeError:
            pass  # there are gaps: text is neither joined nor compared with None
        doubtful = columns.gaps([ids, modified, *values, documents])
        doubtful.update(place for place, at in enumerate(modified) if at is not None and at > latest)
        kept = [place not in doubtful for place in range(number)]

        def of_kept(column: Sequence[Any]) -> list[Any]:
            return list(compress(column, kept))

        made = iter(
            Canonical.many(
                of_kept(ids), of_kept(modified), [of_kept(column) for column in values], of_kept(documents),
                of_kept(whole.parents),
            )
        )  # fmt: skip
        return [next(made) if keep else None for keep in kept]

    def drift(self) -> frozenset[str]:
        return frozenset(name for name in self._drift if len(name) <= 100 and name.isprintable())

    def _rejected(self, record: RawRecord, problems: tuple[Problem, ...]) -> Rejection:
        return Rejection(self._safe_id(record.value), problems, raw_bytes(record))

    def _safe_id(self, value: Mapping[str, Any]) -> str | None:
        """The record's id where it is sound, so that a corrected version finds its quarantine row."""
        try:
            found = self._identify(value)
            return None if found is None else fields.identifier(found)
        except Exception:
            return None

    def _problems(self, error: ValidationError, paths: Mapping[str, str]) -> tuple[Problem, ...]:
        found = []
        for detail in error.errors(include_url=False, include_input=False):
            field = str(detail["loc"][0]) if detail["loc"] else ""
            refused = detail.get("ctx", {}).get("error")
            code = refused.code if isinstance(refused, Refused) else CODE_OF_PYDANTIC.get(detail["type"], "WRONG_TYPE")
            found.append(Problem(code, paths.get(field) or self._paths.get(field, field)))
        return tuple(found)


def _is_object(record: RawRecord) -> bool:
    return record.fault is None and type(record.value) is dict


def as_text(value: str | bool | int | Decimal | datetime) -> str:
    """A value of the model as Canonical wants it."""
    if value is True or value is False:
        return "t" if value else "f"
    return instant_text(value) if isinstance(value, datetime) else str(value)
