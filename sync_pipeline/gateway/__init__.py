"""How a vendor is asked: under its quota, behind a breaker, retried with care, audited always."""
