"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.whole_file import replacing, write_whole


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text in ("one", "zwölf"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_what_is_interrupted_leaves_the_file_as_it_was(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    path = tmp_path / "file"
    write_whole(path, "one")

    def interrupted() -> None:
        with replacing(path) as new:
            new.write_text("two")
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
