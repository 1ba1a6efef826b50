"""Continuation of fields beyond the ends of a grid and into holes, selected by smoothness across the boundary."""

import numpy as np

from ._reflections import REFLECTIONS, Lines

# Fraction of the other values below which values at an end are treated as zero.
_ZERO = 1e-6
# Largest ratio of the third differences across an end to those of the best continuation for an axis to be periodic.
_SMOOTH = 2.0
# Factor of smoothness within which both ends are assumed to have the same condition.
_ALIKE = 10.0
_TINY = 1e-300
#: Continuations for each boundary condition.
KINDS = {"odd": ("odd node", "odd beyond", "odd"), "even": ("even", "even node"), "periodic": ("periodic",)}


def shared_conditions(channels, shape, inside=None, conditions=None):
    """Common boundary conditions of all channels: an axis is periodic for all of them or for none.

    Parameters
    ----------
    channels : list of ndarrays of shape (n_points, n_samples)
    shape, inside, conditions
        As for :func:`find_ends`.

    Returns
    -------
    list of str
        For each axis a key of `KINDS`, or "wall" for any but "periodic", which may differ between channels.
    """
    found = []
    for axis, condition in enumerate(conditions or ["auto"] * len(shape)):
        if condition != "auto":
            found.append(condition)
            continue
        names = [kind for kinds in KINDS.values() for kind in kinds]
        periodic, walls, pinned = 0.0, 0.0, False
        for fields in channels:
            # For both ends and all channels together, since a field that is flat at an end is not conclusive.
            size = np.sqrt(np.square(fields).mean()) + _TINY
            for which in (0, 1):
                scores = _scores(fields, shape, inside, axis, names, which, "box")
                periodic += scores.pop("periodic") / size
                walls += min(scores.values()) / size
                # A field that is zero at an end, but not around it, has a wall there; so has the other end.
                flat = scores["even node"] <= _ZERO * size
                pinned = pinned or (min(scores, key=scores.get) == "odd node" and not flat)
        found.append("periodic" if periodic <= _SMOOTH * walls and not pinned else "wall")
    return found


def find_ends(fields, shape, inside=None, conditions=None):
    """Continuations of a channel.

    Parameters
    ----------
    fields : ndarray of shape (n_points, n_samples)
    shape : tuple of int
    inside : ndarray of bool, of shape `shape`, default=None
    conditions : sequence of str, default=None
        Prescribed conditions of the axes: keys of `KINDS`, "wall" for any but "periodic", or "auto" for any.

    Returns
    -------
    ends : tuple of pairs of str
        For :class:`Lines`.
    hidden : str
        Continuation into the points outside.
    """
    conditions = shared_conditions([fields], shape, inside, conditions)
    ends = []
    for axis, condition in enumerate(conditions):
        if condition == "periodic":
            ends.append(("periodic", "periodic"))
            continue
        names = [kind for name, kinds in KINDS.items() if condition in ("wall", name) for kind in kinds]
        names = [kind for kind in names if kind != "periodic"]
        scores = [_scores(fields, shape, inside, axis, names, which, "box") for which in (0, 1)]
        ends.append(tuple(_alike(scores, [min(score, key=score.get) for score in scores])))
    hidden = "even"
    if inside is not None and not inside.all():
        condition = conditions[0] if len(set(conditions)) == 1 else "wall"
        names = [k for name in ("even", "odd") if condition in ("wall", "periodic", name) for k in KINDS[name]]
        names = [k for k in names if not k.endswith("node")]
        totals = dict.fromkeys(names, 0.0)
        for axis in range(len(shape)):
            for which in (0, 1):
                for kind, score in _scores(fields, shape, inside, axis, names, which, "hole", ends).items():
                    totals[kind] += score
        hidden = min(totals, key=lambda kind: totals[kind])
    return tuple(ends), hidden


def _alike(scores, best):
    """Continuations of both ends, with the same boundary condition if this is not much worse."""
    found = []
    for family in KINDS["odd"], KINDS["even"]:
        pair = [min((k for k in family if k in score), key=score.get, default=None) for score in scores]
        if None not in pair:
            worse = max(s[k] / max(s[b], _TINY) for s, k, b in zip(scores, pair, best, strict=True))
            found.append((worse, pair))
    worse, pair = min(found, key=lambda f: f[0], default=(np.inf, best))
    return pair if worse <= _ALIKE else best


def _scores(fields, shape, inside, axis, names, which, where, ends=None):
    """Root mean square of the third difference across an end (which = 0) or the other one, by continuation.

    `where` is "box" for the ends of the grid, "hole" for those at points outside of the domain.
    """
    line = Lines(shape, tuple(ends) if ends else (("even", "even"),) * len(shape), inside)
    step = -1 if which == 0 else 1
    x = np.unravel_index(line.points, shape)[axis]
    at_box = x == (0 if which == 0 else shape[axis] - 1)
    beside = line.beside(axis, step)
    last = np.flatnonzero(at_box if where == "box" and not line.is_periodic(axis) else (beside < 0) & ~at_box)
    if not len(last):
        return dict.fromkeys(names, 0.0)
    points = line.points[last]
    inner = [fields[points]] + [line.shift(axis, -step * k, points) @ fields for k in (1, 2)]
    size = np.sqrt(np.square(fields[line.points]).mean()) + _TINY
    found = {}
    for name in names:
        if name == "odd node":
            # A point of the boundary itself, where values are zero.
            zero = np.abs(inner[0]).max() <= _ZERO * size
            found[name] = 0.0 if zero else np.inf
            continue
        if name == "even node":
            ghost = inner[1]
        elif name == "periodic":
            ghost = fields[points - step * (shape[axis] - 1) * int(np.prod(shape[axis + 1 :]))]
        else:
            parity, distance = REFLECTIONS[name]
            ghost = 0 * inner[0] if distance == 1 else parity * inner[0]
        found[name] = float(np.sqrt(np.square(ghost - 3 * inner[0] + 3 * inner[1] - inner[2]).mean()))
    return found
