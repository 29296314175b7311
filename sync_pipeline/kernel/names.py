"""Names of secrets as they may be shown: what was put in the place of a name may be the secret itself."""

from __future__ import annotations

import hashlib
import re

_SURELY = re.compile(
    r"[A-Z]{1,12}[0-9]{0,2}"  # TICKETS, T2
    r"|[A-Z]{1,16}(TOKEN|KEY|SECRET|PASSWORD)"
    r"|[A-Z][A-Z0-9]{0,15}(_{1,2}[A-Z0-9]{1,16})+"  # SHOP_2_LIVE
    r"|([a-z]{1,16}[_.-])+(token|key|secret|password)"  # shop-api-key
)


def surely_name(text: str) -> bool:
    """Whether it is a name and cannot be a token, which has no separate words and is longer than one."""
    return _SURELY.fullmatch(text) is not None


def shown(name: str) -> str:
    """The name, or where it may be the secret itself what tells it from others: twelve digits of a digest."""
    return name if surely_name(name) else hashlib.sha256(name.encode()).hexdigest()[:12]
