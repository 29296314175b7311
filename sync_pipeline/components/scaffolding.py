"""`dg scaffold defs sync_pipeline.components.VendorConnection <path> --vendor … `: a document ready to edit."""

import re
from typing import Any

from dagster.components import Scaffolder, ScaffoldRequest
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field


class VendorConnectionParams(BaseModel):
    """What a new connection needs to be told."""

    name: str = Field(default="", description="Name of the connection; default the last part of the path.")
    vendor: str = Field(default="pretix", description="eventbrite, pretix or rest.")
    base_url: str = Field(default="", description="Where the API is; default the vendor's own.")
    token_env: str = Field(default="", description="Environment variable that holds the token.")
    organization: str = Field(default="", description="Eventbrite organization id.")
    organizer: str = Field(default="", description="pretix organizer slug.")


REST_FEED: dict[str, Any] = {
    "name": "registrations",
    "contract": "sync_pipeline.contracts.mapped:MappedContract",
    "contract_options": {
        "fields": {"vendor_id": "id", "event_id": "event_id", "email": "email", "ticket_sku": "ticket_sku",
                   "created_at": "created_at", "modified_at": "modified_at"},
        "status": "payment_status",
        "statuses": {"paid": "COMPLETED", "pending": "PENDING", "refunded": "REFUNDED", "failed": "FAILED"},
    },
    "rest": {
        "path": "/v1/registrations",
        "records": "data",
        "page_size_param": "limit",
        "paging": {"kind": "cursor", "param": "cursor", "token": "next_cursor"},
        "modified": {"field": "modified_at", "param": "modified_since"},
    },
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "eventbrite": {
        "base_url": "https://www.eventbriteapi.com/v3",
        "organization": "0",
        "feeds": [{"name": "orders"}, {"name": "attendees"}],
    },
    "pretix": {
        "base_url": "https://pretix.eu/api/v1",
        "organizer": "my-organizer",
        "feeds": [{"name": "orders"}, {"name": "positions"}],
    },
    "rest": {
        "base_url": "https://api.example.com",
        "limits": [{"name": "minute", "limit": 60, "seconds": 60, "source": "the vendor's documentation"}],
        "feeds": [REST_FEED],
    },
}


class VendorConnectionScaffolder(Scaffolder[VendorConnectionParams]):
    """Writes defs.yaml from options."""

    @classmethod
    def get_scaffold_params(cls) -> type[VendorConnectionParams]:
        return VendorConnectionParams

    def scaffold(self, request: ScaffoldRequest[VendorConnectionParams]) -> None:
        given = request.params
        name = given.name or name_of(request.target_path.name, given.vendor)
        attributes: dict[str, Any] = {
            "name": name,
            "vendor": given.vendor,
            "token_env": given.token_env or f"{name.upper()}_TOKEN",
            **DEFAULTS.get(given.vendor, DEFAULTS["rest"]),
        }
        for option in ("base_url", "organization", "organizer"):
            if value := getattr(given, option):
                attributes[option] = value
        scaffold_component(request, attributes)


def name_of(folder: str, vendor: str) -> str:
    """A connection's name from the folder of its document. It must begin with a letter; a folder need not."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.lower()).strip("_")
    return name if name[:1].isalpha() else f"{vendor}_{name}".rstrip("_")
