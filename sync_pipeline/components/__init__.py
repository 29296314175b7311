"""YAML to Dagster definitions. Thin: what they do is in the rooms below."""

from sync_pipeline.components.vendor_connection import VendorConnection as VendorConnection
