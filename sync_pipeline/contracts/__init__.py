"""What a valid record is: pydantic models and mappings. A record becomes a canonical row or a rejection with codes."""

from sync_pipeline.contracts.loading import load_contract

__all__ = ["load_contract"]
