"""Where two recipes differ, for the one line that says so."""


def first_difference(there: object, here: object, key: str = "") -> str:
    """Names the first setting that differs, empty when none does."""
    if isinstance(there, dict) and isinstance(here, dict):
        # What kind of thing it is says more than its options.
        for name in sorted({*there, *here}, key=lambda name: (name != "name", name)):
            inner = first_difference(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
            if inner:
                return inner
        return ""
    return "" if there == here else f"{key} is {there!r} there and {here!r} here"
