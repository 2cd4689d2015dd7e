"""The pre-trained weights w0, left where they are: in the files that the model was loaded from.

Every rebuild reads w0 and none changes it, so a copy of our own would only take memory. What the
model's safetensors files hold is mapped from them instead: clean pages, which the system reads when
they are wanted, takes back when memory is short, and shares between processes. Only what no file
holds is copied: weights of `.bin` checkpoints, and those that transformers computed from others.

w0 stays with the host even if the model is on a GPU, so that a GPU holds the weights once.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import torch

from peer.errors import UserError
from peer.model import FlatModel, Layout
from peer.tensors import all_finite
from peer.weights_digest import weights_digest

_CHUNK: Final = 2**16
"""Weights that are looked at in one go, so that nothing of the size of the model is made."""

_TYPES: Final = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_BITS: Final = {2: torch.int16, 4: torch.int32}


class Segment(NamedTuple):
    """Some of w0, one after the other.

    Attributes:
        start: index, in the model, of the first.
        weights: shape (n,), contiguous, on the CPU, to be read only. They may be of another type
            than the model's: rounded to that, they are the model's.
    """

    start: int
    weights: torch.Tensor


class Pretrained:
    """The weights that a model has when this is made, shape (d,).

    What has the same bits in one of the model's files, converted to the model's type as
    transformers does it, is mapped from there, whatever its name is there. So a tied or renamed
    parameter is found as well, and a file of other contents does no harm.

    A file that is replaced, moved or removed lives on for those who have mapped it. One that is
    changed in place, under whatever name by then, changes w0, which `check` notices before a
    rebuild; if it is cut short just while one reads it, the system ends the process.

    Attributes:
        dtype: the type of the model's weights.
        digest: that of w0, see `peer.weights_digest`.
        segments: w0 from first to last. Parameters that lie one after the other in the model and in
            a file make up one segment.

    Raises:
        UserError: a weight is not finite.
    """

    def __init__(self, model: FlatModel) -> None:
        _refuse_not_finite(model.weights, model.layout)
        self.dtype = model.weights.dtype
        self.digest = weights_digest(model.weights)
        self._files = [_WeightFile(path) for path in model.files]
        self.segments = tuple(_segments(model, self._files))

    def __len__(self) -> int:
        """d, how many weights there are."""
        return sum(len(segment.weights) for segment in self.segments)

    def check(self) -> None:
        """Notice a file that was changed in place.

        Raises:
            UserError: w0 may not be what it was.
        """
        for file in self._files:
            file.check()


@dataclass(frozen=True)
class _Stored:
    """A tensor of a file.

    Attributes:
        file: where it is.
        start: its first byte there.
        size: how many numbers it has.
        dtype: their type.
    """

    file: _WeightFile
    start: int
    size: int
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        """Return the first byte after it."""
        return self.start + self.size * self.dtype.itemsize

    def weights(self) -> torch.Tensor:
        """Return it without its shape, mapped."""
        return self.file.bytes[self.start : self.stop].view(self.dtype)


class _WeightFile:
    """A safetensors file, mapped: 8 bytes that say how long the header is, a JSON header, data.

    Attributes:
        bytes: the whole file, shape (bytes,), uint8. Who wrote into it by mistake would get a page
            of their own: the file cannot change. (torch knows no tensors that are read only.)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Kept open, because another file may have its name later, and it another name.
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)
        self._before = os.fstat(self._file.fileno())
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.bytes = torch.frombuffer(mapped, dtype=torch.uint8)

    def tensors(self) -> Iterator[tuple[str, _Stored]]:
        """Yield name and place of the tensors of a type that weights may have."""
        length = int.from_bytes(self.bytes[:8].numpy().tobytes(), "little")
        header = json.loads(self.bytes[8 : 8 + length].numpy().tobytes())
        header.pop("__metadata__", None)
        for name, about in header.items():
            start, stop = (8 + length + offset for offset in about["data_offsets"])
            dtype = _TYPES.get(about["dtype"])
            # Files that early versions of safetensors wrote have headers of any length.
            if dtype is not None and start < stop and start % dtype.itemsize == 0:
                yield name, _Stored(self, start, (stop - start) // dtype.itemsize, dtype)

    def check(self) -> None:
        """Raise UserError if the file was changed in place."""
        before, now = self._before, os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise UserError(
                f"{self._path} was changed while it was in use: the pre-trained weights are in it"
            )


def _refuse_not_finite(weights: torch.Tensor, layout: Layout) -> None:
    if all_finite(weights):
        return
    for slot in layout.slots:
        part = weights[slot.offset : slot.offset + slot.size]
        for place in part.isfinite().logical_not().nonzero()[:1]:
            index = [int(i) for i in torch.unravel_index(place, slot.shape)]
            raise UserError(
                f"the model's weights are not finite: {slot.name}{index} is {float(part[place])}"
            )


def _segments(model: FlatModel, files: list[_WeightFile]) -> Iterator[Segment]:
    """Yield the segments that w0 is made of, w0 being the model's weights now."""
    stored = [(name, tensor) for file in files for name, tensor in file.tensors()]
    by_name = dict(stored)
    by_place = {(tensor.file, tensor.start): tensor for _, tensor in stored}
    by_size = defaultdict(list)
    for _, tensor in stored:
        by_size[tensor.size].append(tensor)
    # Where a run of parameters begins and ends in the model, and in which place of a file it is.
    runs: list[tuple[int, int, _Stored | None]] = []
    for slot in model.layout.slots:
        start, stop = slot.offset, slot.offset + slot.size
        weights = model.weights[start:stop]
        last = runs[-1][2] if runs else None
        # Most parameters follow one another in the file as in the model: first look there.
        follower = by_place.get((last.file, last.stop)) if last else None
        candidates = (follower, by_name.get(slot.name), *by_size[slot.size])
        found = next((each for each in candidates if each and _equal(weights, each)), None)
        if found and last and found is follower and found.dtype == last.dtype:
            found = replace(last, size=last.size + found.size)
            start = runs.pop()[0]
        elif runs and not found and not last:
            start = runs.pop()[0]
        runs.append((start, stop, found))
    for start, stop, found in runs:
        weights = found.weights() if found else model.weights[start:stop].to("cpu", copy=True)
        yield Segment(start, weights)


def _equal(weights: torch.Tensor, stored: _Stored) -> bool:
    """Tell whether weights are what is stored, to the bit, after conversion to their type."""
    if len(weights) != stored.size:
        return False
    bits, other = _BITS[weights.dtype.itemsize], stored.weights()
    return all(
        torch.equal(
            weights[at : at + _CHUNK].cpu().view(bits),
            other[at : at + _CHUNK].to(weights.dtype).view(bits),
        )
        for at in range(0, len(weights), _CHUNK)
    )
