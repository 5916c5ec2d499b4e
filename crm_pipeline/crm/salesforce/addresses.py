"""Which addresses may be spoken to: https anywhere, plain http on this machine only.

Belongs here: judging URLs that settings, logins and answers give us. Does not belong here: sending.
"""

import ipaddress
from urllib.parse import urlsplit

from crm_pipeline.errors import ConfigurationError, PermanentError


def checked_url(url: str, named: str) -> str:
    """The scheme and host of a base URL.

    Raises:
        ConfigurationError: it is no URL of a host, or plain http to another machine.
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    host = parts.hostname or ""
    if not host or parts.username or parts.password or parts.scheme not in {"http", "https"}:
        raise ConfigurationError(
            f"{named} must be a scheme and a host, as https://your-domain.my.salesforce.com."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(
            f"{named} must begin with https://; http:// is for this machine's own addresses only."
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{port}"


def path_on(instance_url: str, address: str) -> str:
    """Path and query of an address that must lie on the instance; relative ones do.

    The scheme is not compared: the client library writes https whatever the instance speaks.

    Raises:
        PermanentError: it leads to another host, which must not see our token.
    """
    try:
        parts = urlsplit(address)
        host = parts.netloc
    except ValueError:
        parts, host = urlsplit(""), "?"
    if parts.path.startswith("/") and host in {"", urlsplit(instance_url).netloc}:
        return f"{parts.path}?{parts.query}" if parts.query else parts.path
    raise PermanentError(
        "Salesforce pointed to an address outside of the instance that we logged in to; nothing "
        "was sent there. Check SALESFORCE_LOGIN_URL."
    )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
