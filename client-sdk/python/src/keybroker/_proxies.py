"""The proxies that the environment names, which HTTP clients leave aside once they are given a transport."""

from __future__ import annotations

import urllib.request


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy for a host, by `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
