"""Fields on their way into a network: scaled, cast, in batches."""

from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import torch
from sklearn.utils import gen_batches

from .._containers import LARGE, PART, is_mapped
from .._endings import check_ending
from ._processes import ALONE

# Limits up to which a whole data set is scaled and moved to the device once: bytes on a CPU, bytes there for data in
# files (larger data sets are read ahead), and the fraction of the free memory of a GPU.
_KEPT_BYTES, _MAPPED_BYTES, _KEPT_PART = 2**28, LARGE, 0.5
# Count of numbers that are read at a time, and the largest number of samples.
_PART, _SAMPLES = PART, 1024
# Number of samples that are always used, however large.
_FEWEST = 32


def max_scales(fields, n_channels, rows=None):
    """Largest magnitude of every channel; 1 where that is zero, so that constant zero fields are preserved.

    Only the given `rows` are used, a batch at a time, since a copy of all of them might not fit into memory.
    """
    scales = np.zeros(n_channels or 1)
    for channels in _channels(fields, n_channels, rows):
        scales = np.maximum(scales, np.maximum(channels.max(axis=(0, 2)), -channels.min(axis=(0, 2))))
    return np.where(scales > 0, scales, 1.0)


def _parts(n_samples, size):
    """Slices of samples whose fields, of `size` numbers each, fit into memory."""
    return gen_batches(n_samples, max(min(_SAMPLES, _PART // size), 1))


def _channels(fields, n_channels, rows):
    for batch in _parts(len(fields) if rows is None else len(rows), fields.shape[1]):
        channels = fields[batch if rows is None else rows[batch]]
        yield channels.reshape(len(channels), n_channels or 1, -1)


def standard_scales(fields, n_channels, rows=None, *, weight=None, inside=None, by_point=False):
    """Offsets and scales that standardise every channel.

    The offset is the mean over samples and points; with `by_point`, it is the mean field if that explains more than
    half of the variance, since otherwise it impedes translation-invariant networks. The scale is the standard deviation
    from the offset, or 1 if that is zero.

    Parameters
    ----------
    fields : ndarray of shape (n_samples, n_values)
    n_channels : int or None
    rows : ndarray of int, default=None
        Rows to use; all if None.
    weight : ndarray of shape (n_samples,), default=None
        Weights of these samples.
    inside : ndarray of bool and shape (n_values,), default=None
        Values inside the domain; the offset is zero at the others.
    by_point : bool, default=False

    Returns
    -------
    offset : ndarray of shape (n_channels, n_points)
    scale : ndarray of shape (n_channels,)
    """
    n_channels = n_channels or 1
    counts = np.ones((n_channels, fields.shape[1] // n_channels))
    if inside is not None:
        counts = inside.reshape(n_channels, -1).astype(float)
    # Divided by the largest magnitude first, since squares may overflow.
    unit = max_scales(fields, n_channels, rows)
    n, total, square = 0.0, np.zeros_like(counts), np.zeros_like(counts)
    start = 0
    for channels in _channels(fields, n_channels, rows):
        scaled = channels / unit[:, None] * counts
        w = np.ones(len(scaled)) if weight is None else weight[start : start + len(scaled)]
        start, n = start + len(scaled), n + w.sum()
        total, square = total + np.tensordot(w, scaled, 1), square + np.tensordot(w, scaled**2, 1)
    n_points = np.maximum(counts.sum(1), 1)
    mean = total / n
    grand = (mean.sum(1) / n_points)[:, None] * counts
    offset = grand
    if by_point and n > 1:
        deviation = (mean - grand) * counts
        within = np.maximum(square / n - mean**2, 0).sum(1)
        # Minus the share that the mean of few samples explains by chance.
        explained = np.square(deviation).sum(1) - within / (n - 1)
        offset = grand + np.where(explained > within, 1.0, 0.0)[:, None] * deviation
    # The mean of (u - offset)².
    variance = (square / n - 2 * offset * mean + offset**2 * counts).sum(1) / n_points
    scale = np.sqrt(np.maximum(variance, 0))
    # The deviation of a constant field is rounding.
    scale = np.where(scale > 1e-12, scale, 1.0)
    return offset * unit[:, None], scale * unit


def taken(data, most):
    """Inputs, targets and weights of a part of the data, evenly subsampled if there are too many rows.

    Parameters
    ----------
    data : tuple (X, y, sample_weight, rows)
        Weights are those of the part.
    most : int
        Largest count of numbers in inputs and targets.
    """
    X, y, sample_weight, rows = data
    n_samples = len(X) if rows is None else len(rows)
    enough = max(most // (X.shape[1] + y.shape[1]), _FEWEST)
    if n_samples <= enough:
        return *(array[slice(None) if rows is None else rows] for array in (X, y)), sample_weight
    some = slice(None, None, -(-n_samples // enough))
    of_all = some if rows is None else rows[some]
    return X[of_all], y[of_all], None if sample_weight is None else sample_weight[some]


_ONE = np.ones(1)
_ZERO = np.zeros((1, 1))


class Fields(torch.utils.data.Dataset):
    """Input and target fields, scaled and cast: all at once if they fit into memory, otherwise batch by batch.

    With `rows`, a part of them; `sample_weight` is that of the part.
    """

    def __init__(
        self,
        X,
        y=None,
        sample_weight=None,
        rows=None,
        *,
        shapes,
        scales=(_ONE, _ONE),
        offsets=(_ZERO, _ZERO),
        dtype,
        device,
    ):
        # scikit-learn's check of a fold's size and skorch's callbacks look for the names X and y.
        self.X, self.y, self.sample_weight, self.rows = X, y, sample_weight, rows
        self.shapes, self.scales, self.offsets, self.dtype, self.device = shapes, scales, offsets, dtype, device
        self._tensors: tuple | None = None

    def __len__(self):
        return len(self.X if self.rows is None else self.rows)

    @property
    def n_bytes(self):
        """Bytes of all fields in the type of the network."""
        return len(self) * self._size * np.dtype(self.dtype).itemsize

    @property
    def in_files(self):
        """Whether inputs or targets are views of files."""
        return is_mapped(self.X) or is_mapped(self.y)

    @property
    def _size(self):
        """Count of numbers in one sample."""
        return sum(map(prod, self.shapes if self.y is not None else self.shapes[:1]))

    def keep(self):
        """Scale and move all fields now, if they fit, because they will be used many times."""
        device = torch.device(self.device)
        limit: float = _MAPPED_BYTES if self.in_files else _KEPT_BYTES
        if device.type == "cuda":
            limit = _KEPT_PART * torch.cuda.mem_get_info(device)[0]
        if self.n_bytes <= limit:
            whole = [
                None if one is None else one.new_empty((len(self), *one.shape[1:]), device=device)
                for one in self.read(slice(0, 1))
            ]
            for part in _parts(len(self), self._size):
                for tensor, found in zip(whole, self.read(part), strict=True):
                    if tensor is not None:
                        tensor[part] = found
            self._tensors = self._pair(*whole)
        return self

    def batch(self, rows):
        """Scaled ``(x, y)`` of the given rows, as tensors on the device; ``(x, (y, sample_weight))`` with weights."""
        if self._tensors is not None:
            x, y = self._tensors
            return x[rows], (y[0][rows], y[1][rows]) if isinstance(y, tuple) else y[rows]
        return self.moved(self.read(rows))

    def read(self, rows):
        """Scaled inputs, targets and weights of the given rows, as tensors on the CPU; None for absent ones."""
        rows = rows.numpy() if isinstance(rows, torch.Tensor) else rows
        of_all = rows if self.rows is None else self.rows[rows]
        return tuple(
            None if array is None else self._to_tensor(array, which, scale, offset).view(-1, *shape)
            for array, which, scale, offset, shape in zip(
                (self.X, self.y, self.sample_weight),
                (of_all, of_all, rows),
                (*self.scales, _ONE),
                (*self.offsets, _ZERO),
                (*self.shapes, ()),
                strict=True,
            )
        )

    def moved(self, tensors):
        """The fields that were read, on the device, as :meth:`batch` returns them."""
        return self._pair(*(None if tensor is None else tensor.to(self.device) for tensor in tensors))

    @staticmethod
    def _pair(x, y, weight):
        return x, y if weight is None else (y, weight)

    def _to_tensor(self, array, rows, scales, offsets):
        # A copy, which index arrays make anyway, since the caller's memory may be read-only. It is scaled before it is
        # cast, since the data may exceed the range of float32.
        picked = array[rows].copy() if isinstance(rows, slice) else array[rows]
        channels = picked.reshape(len(picked), len(scales), -1)
        if offsets.any():
            channels -= offsets
        channels /= scales[:, None]
        return torch.from_numpy(picked.astype(self.dtype, copy=False))


class Batches:
    """In-memory replacement of torch's DataLoader, which costs more than a training step of a small network.

    With `rng`, every pass is in a new random order. Batches are those of all processes together, each of which gets its
    part of them.
    """

    def __init__(self, dataset, batch_size, rng=None, processes=ALONE):
        self.dataset, self.batch_size, self.rng, self.processes = dataset, batch_size, rng, processes

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    @property
    def sizes(self):
        """Number of samples of every batch, in all processes together."""
        return [part.stop - part.start for part in gen_batches(len(self.dataset), self.batch_size)]

    def __iter__(self):
        n, data = len(self.dataset), self.dataset
        order = None
        if self.rng is not None:
            order = torch.from_numpy(self.rng.permutation(n))
            if data._tensors is not None:
                order = order.to(data.device)  # once per pass, not once per step
        slices = map(self.processes.part, gen_batches(n, self.batch_size))
        rows = slices if order is None else (order[part] for part in slices)
        if data._tensors is None and data.in_files and data.n_bytes > _MAPPED_BYTES:
            yield from self._read_ahead(rows)
            return
        for some in rows:
            check_ending()
            yield data.batch(some)

    def _read_ahead(self, rows):
        """Batches that a thread reads while the previous one is processed. It does not access the device."""
        with ThreadPoolExecutor(1, "fields") as reader:
            ahead = reader.submit(self.dataset.read, next(rows))
            for some in rows:
                present, ahead = ahead, reader.submit(self.dataset.read, some)
                check_ending()
                yield self.dataset.moved(present.result())
            yield self.dataset.moved(ahead.result())
