"""Words and numbers at a glance, for people."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One number at a glance.

    Attributes:
        label: what it is, in words of every day.
        help: the field's word, and what it means.
    """

    label: str
    value: str
    detail: str
    help: str


def duration(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `5.3 hours` or `3.1 days`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
