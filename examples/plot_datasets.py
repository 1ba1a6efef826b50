"""
======================================
The data sets: one sample of each kind
======================================

Every problem of the Neural-HSS paper has a generator in :mod:`sklearn_hss.datasets`. Here are a few samples of
each, a table of what they cost, and a picture with one of each.

Takes about half a minute on two cores.
"""

# %%
# A table of calls
# ----------------
# The function below calls a generator, and notes the call, the shapes and the seconds.

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sklearn_hss.datasets import (
    GRAY_SCOTT_PATTERNS,
    make_burgers,
    make_gray_scott,
    make_heat,
    make_helmholtz,
    make_navier_stokes,
    make_poisson,
)

rows = []


def generate(problem, make, *sizes, **parameters):
    """Data of a generator; a row of the table."""
    start = time.perf_counter()
    arrays = make(*sizes, **parameters, random_state=0, n_jobs=2, verbose=0)
    seconds = time.perf_counter() - start
    arguments = [f"{name}={getattr(value, '__name__', repr(value))}" for name, value in parameters.items()]
    call = f"{make.__name__}({', '.join([*map(str, sizes), *arguments])})"
    rows.append((problem, " ".join(str(array.shape).replace(" ", "") for array in arrays), seconds, call))
    return arrays


# %%
# One dimension
# -------------
# The elliptic problems are pairs (f, u); those in time are trajectories here, and pairs of states by default.

F_1, U_1 = generate("Poisson 1-D, Dirichlet", make_poisson, 10)
F_2, U_2 = generate("Poisson 1-D, Neumann", make_poisson, 10, boundary="neumann")
t_heat, U_heat = generate("heat", make_heat, 2, return_trajectories=True)
t_burgers, U_burgers = generate(
    "Burgers", make_burgers, 2, t_final=2, store_every=0.01, step=0.01, return_trajectories=True
)

# %%
# Two and three dimensions
# ------------------------
# Forcings are the paper's sine modes, white noise, or smooth random fields. Those on the box, on the L-shape and with a
# variable diffusivity, here that of four disks in which it is thirty times larger, are the same random field.


def disks(x, y):
    """Diffusivity: 30 in four disks, 1 elsewhere."""
    return np.where(np.hypot(x % 0.5 - 0.25, y % 0.5 - 0.25) < 0.15, 30, 1)


grid = (128, 128)
smooth = {"forcing": "grf", "length_scale": 0.07}
elliptic = {
    "box, sine modes": generate("Poisson 2-D", make_poisson, 5, grid),
    "box, white noise": generate("white noise", make_poisson, 5, grid, forcing="gaussian"),
    "box, smooth": generate("smooth forcing", make_poisson, 5, grid, **smooth),
    "a = 30 in disks": generate("variable diffusivity", make_poisson, 5, grid, **smooth, diffusivity=disks),
    "L-shape": generate("L-shape", make_poisson, 5, grid, **smooth, domain="l-shape", return_mask=True),
    "perforated square": generate(
        "perforated square", make_poisson, 5, grid, **smooth, domain="perforated", return_mask=True
    ),
    "3-D, slice z = 0.3": generate("Poisson 3-D", make_poisson, 2, (64, 64, 64)),
    "Helmholtz, κ = 70": generate("Helmholtz", make_helmholtz, 5, grid),
}

# %%
# Flow, and two substances that react
# -----------------------------------
# The patterns of the Gray-Scott model are those after 2,000 s; the default is 10,000 s. Of the "bubbles", the "fourier"
# initial states make a whole foam, and "gaussians" a few pieces.

w_0, w_1 = generate("Navier-Stokes", make_navier_stokes, 2)
patterns = [name for name in GRAY_SCOTT_PATTERNS if name != "bubbles"]
late = {"states": (0, 200), "dtype": "float32"}
_, Y = generate("Gray-Scott", make_gray_scott, 5, pattern=patterns, initial="gaussians", **late)
_, bubbles = generate("Gray-Scott, bubbles", make_gray_scott, 1, pattern="bubbles", initial="fourier", **late)
concentrations = dict(zip(patterns, Y[:, 1], strict=True)) | {"bubbles": bubbles[0, 1]}

# %%
# The table
# ---------

print(f"{'problem':<24} {'shapes':<37} {'seconds':>7}  call")
for problem, shapes, seconds, call in rows:
    print(f"{problem:<24} {shapes:<37} {seconds:>7.2f}  {call}")

# %%
# The picture
# -----------
# Red is positive, blue negative, white zero. Every field has its own scale, and in those of two signs the largest half
# percent of the values is cut off, for the sine modes add up to peaks at the corners.


def draw(axis, field, title="", signed=True, **options):
    """A field f[i, j], i to the right."""
    size = np.nanquantile(np.abs(field), 0.995)
    colours = {"cmap": "RdBu_r", "vmin": -size, "vmax": size} if signed else {"cmap": "magma", "vmin": 0}
    axis.imshow(field.T, origin="lower", **{"extent": (0, 1, 0, 1), "interpolation": "none"} | colours | options)
    axis.set(title=title, xticks=[], yticks=[])


plt.rcParams.update({"axes.titlesize": 11, "axes.linewidth": 0.6, "figure.titlesize": 14, "figure.titleweight": "bold"})
figure = plt.figure(figsize=(16, 9.9), layout="constrained")
figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0, hspace=0)
top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.6, 4.5, 2.65))

top.suptitle("One dimension")
axes = top.subplots(1, 4)
ends = {
    "u = 0 at both ends": (np.arange(256) / 256, F_1, U_1),
    "u' = 0 at both ends": ((np.arange(256) + 0.5) / 256, F_2, U_2),
}
for axis, (title, (x, F, U)) in zip(axes[:2], ends.items(), strict=True):
    axis.plot(x, F[0] / np.abs(F[0]).max(), "C0", linewidth=1, label="f")
    axis.plot(x, U[0] / np.abs(U[0]).max(), "C3", linewidth=2, label="u")
    axis.axhline(0, color="k", linewidth=0.5)
    axis.set(title=f"Poisson: {title}", xlabel="x", xlim=(0, 1), xticks=(0, 1), yticks=[])
    axis.legend(loc="upper right")
for axis, (title, times, U) in zip(
    axes[2:], [("heat", t_heat, U_heat), ("Burgers", t_burgers, U_burgers)], strict=True
):
    draw(axis, U[0], f"{title}: u(t, x)", extent=(0, times[-1], 0, 1), aspect="auto")
    axis.set(xlabel="t", ylabel="x", xticks=(0, times[-1]), yticks=(0, 1))

middle.suptitle("Poisson and Helmholtz: right-hand sides f, solutions u")
axes = middle.subplots(2, 8)
for (upper, lower), (title, (F, U, *mask)) in zip(axes.T, elliptic.items(), strict=True):
    f, u = (V[0] if V.ndim == 3 else V[0, :, :, 19] for V in (F, U))
    if mask:
        f, u = np.where(mask[0], f, np.nan), np.where(mask[0], u, np.nan)
    draw(upper, f, title)
    draw(lower, u)
for axis in axes[:, list(elliptic).index("a = 30 in disks")]:
    axis.contour(
        disks(*np.meshgrid(*2 * [np.linspace(0, 1, 300)])), [15], extent=(0, 1, 0, 1), colors="k", linewidths=0.8
    )
axes[0, 0].set_ylabel("f", rotation=0, fontsize=14, labelpad=10)
axes[1, 0].set_ylabel("u", rotation=0, fontsize=14, labelpad=10)

left, right = bottom.subfigures(1, 2, width_ratios=(6, 2))
left.suptitle("Gray-Scott: the second substance after 2,000 s")
for axis, name in zip(left.subplots(1, 6), GRAY_SCOTT_PATTERNS, strict=True):
    draw(axis, concentrations[name], name, signed=False)
right.suptitle("Navier-Stokes: vorticity")
for axis, title, w in zip(right.subplots(1, 2), ("t = 0", "t = 1"), (w_0, w_1), strict=True):
    draw(axis, w[0], title)
figure.savefig("datasets.png", dpi=100)
print(f"Picture: {Path('datasets.png').resolve()}")
