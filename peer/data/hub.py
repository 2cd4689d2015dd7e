"""Records out of a data set that the `datasets` library finds by its id. The only user of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from peer.errors import UserError, in_one_line
from peer.hub import ready_hub

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_hub_id(source: str) -> bool:
    """Whether a text is of the form `name` or `owner/name`."""
    return _ID.fullmatch(source) is not None


def hub_records(source: str) -> Iterator[tuple[str, object]]:
    """Yield (where, record) for the train split of a data set, or for the only split it has.

    Raises:
        UserError: the library could not give it, or it has several splits and none named train.
    """
    ready_hub()
    import datasets

    try:
        splits = datasets.load_dataset(source)
    # The library fails with many kinds of errors: no network, no such id, no configuration named.
    except Exception as error:
        raise UserError(
            f"{source!r} is no file or folder here, and no data set by that id came: "
            f"{in_one_line(error)}"
        ) from error
    names = list(splits)
    name = "train" if "train" in splits else names[0]
    if name != "train" and len(names) > 1:
        raise UserError(
            f"data set {source!r}: splits {', '.join(names)}; allowed: one named train, or only one"
        )
    for number, record in enumerate(splits[name], start=1):
        yield f"data set {source!r}, row {number}", record
