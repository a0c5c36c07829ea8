"""The version of the API that plugins and tasks are written for."""

from __future__ import annotations

import re

API_VERSION = "2.0"
"""The version of the engine's API: the events and their order, what the names in `trainer.__all__` do, and the entry
points. The second number grows with each addition; the first one with each removal or incompatible change. A plugin or
a task whose `api` has another first number, or a later second one, is refused."""


def why_unfit(wanted: object) -> tuple[str, str]:
    """What is wrong with a class that was written for the API version `wanted`, and the fix; both empty if it fits.

    An empty `wanted` fits: the class does not name a version.
    """
    if wanted == "":
        return "", ""
    if not isinstance(wanted, str) or not re.fullmatch(r"\d+\.\d+", wanted):
        return f"its api is {wanted!r}", f"Write it as a text of two numbers, such as api = {API_VERSION!r}."
    (major, minor), (our_major, our_minor) = (tuple(map(int, each.split("."))) for each in (wanted, API_VERSION))
    if (major, minor) == (our_major, our_minor) or (major == our_major and minor < our_minor):
        return "", ""
    what = f"it was written for version {wanted} of the engine's API, and this is {API_VERSION}"
    if (major, minor) > (our_major, our_minor):
        return what, "Update gluon-trainer."
    return what, "Update its package."
