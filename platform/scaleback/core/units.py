"""Numbers as people read them. Units live in field names; this module only prints."""

from __future__ import annotations


def count(value: float) -> str:
    """12800000 -> ``12.8 M``; exact below 10,000."""
    if abs(value) < 10_000:
        return f"{value:,.0f}"
    for size, suffix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    raise AssertionError(value)


def size(value_bytes: float) -> str:
    """1536 -> ``1.5 KiB``."""
    for suffix in ("B", "KiB", "MiB", "GiB"):
        if abs(value_bytes) < 1024:
            return f"{value_bytes:.0f} B" if suffix == "B" else f"{value_bytes:.1f} {suffix}"
        value_bytes /= 1024
    return f"{value_bytes:.1f} TiB"


def duration(seconds: float) -> str:
    """95 -> ``1 min 35 s``; 0.42 -> ``0.42 s``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(share: float) -> str:
    """0.7123 -> ``71.2 %``."""
    return f"{100 * share:.1f} %"
