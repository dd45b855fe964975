"""`host:port`, as users write where something listens or connects to."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8474`, `shop.example:443`, `[::1]:80`. Raises ValueError for anything else."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"an address is written host:port, like 127.0.0.1:8474 or [::1]:80, not {text!r}")
    return bare, int(port)


def show_address(host: str, port: int) -> str:
    """The way `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
