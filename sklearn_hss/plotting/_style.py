"""Colours, sizes, colour bars and labels, the same in all pictures. matplotlib is imported when the first is drawn."""

import inspect

import numpy as np

# Okabe and Ito's colours, which people tell apart whatever their colour vision is; their yellow is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
# Colour maps of fields of one sign, of two signs, and of errors, which are no fields.
SEQUENTIAL, DIVERGING, OF_ERRORS = "viridis", "RdBu_r", "PuOr_r"
# Where there are no data.
BLANK = "0.88"
# Legends, which may lie on lines.
LEGEND = {"fontsize": "small", "framealpha": 0.8, "edgecolor": "none"}
# Inches: a picture of one plot, and each panel of one of several.
SINGLE, PANEL = (6.4, 4.4), (3.3, 2.9)
# A field has two signs if the smaller side has this share of the larger one.
_TWO_SIGNS = 0.05


def pyplot():
    """The module matplotlib.pyplot.

    Raises
    ------
    ImportError
        Tells how to install it.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib; install it with `pip install matplotlib` or `pip install sklearn-hss[plot]`."
        ) from error
    return plt


def single(ax=None, size=SINGLE):
    """The axes of the user, or those of a new figure."""
    plt = pyplot()
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else check_axes(ax, 1, 1)[0, 0]


def panels(n_rows, n_columns, axes=None, **options):
    """Array of axes, those of the user or those of a new figure, on which outer ones alone have tick labels."""
    plt = pyplot()
    if axes is not None:
        return check_axes(axes, n_rows, n_columns)
    size = (PANEL[0] * n_columns, PANEL[1] * n_rows)
    return plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, **options)[1]


def check_axes(axes, n_rows, n_columns):
    """Axes of the user as an array.

    Raises
    ------
    TypeError, ValueError
        If they are something else, or not as many as there are panels.
    """
    found = np.asarray(axes, dtype=object)
    for ax in found.flat:
        if not hasattr(ax, "get_subplotspec"):
            raise TypeError(f"axes must be matplotlib Axes, or an array of them, not {type(ax).__name__}.")
    if found.size != n_rows * n_columns:
        raise ValueError(f"{found.size} axes were given, but the picture has {n_rows} × {n_columns} panels.")
    return found.reshape(n_rows, n_columns)


def line_style(i):
    """Colour, dashes and marker of the i-th line; they tell lines apart in grey, too."""
    n = len(COLOURS)
    return {
        "color": COLOURS[i % n],
        "marker": MARKERS[i % n],
        "linestyle": DASHES[i // n % len(DASHES)],
        "markersize": 4.5,
        "markerfacecolor": "none",
    }


def colours_of(*fields, least=1e-9):
    """Colour map and limits that fields share: about zero if they have two signs.

    Those whose values differ by less than the fraction `least` are constant, but for rounding.
    """
    values = np.concatenate([field[np.isfinite(field)].ravel() for field in fields])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if min(-low, high) > _TWO_SIGNS * max(-low, high):
        return {"cmap": DIVERGING, **_about_zero(max(-low, high))}
    if high - low <= least * max(abs(low), abs(high)):
        half = max(abs(low), abs(high), np.finfo(float).tiny) / 2
        low, high = (low + high) / 2 - half, (low + high) / 2 + half
    return {"cmap": SEQUENTIAL, "vmin": low, "vmax": high}


def error_colours(error):
    """Colour map and limits of a difference of fields."""
    return {"cmap": OF_ERRORS, **_about_zero(float(np.abs(error[np.isfinite(error)]).max(initial=0.0)))}


def _about_zero(size):
    return {"vmin": -(size or 1.0), "vmax": size or 1.0}


def colour_bar(ax, image, *fields, label=""):
    """Colour bar of an image, as high as its axes; its ends are pointed where `fields` leave the limits.

    Returns
    -------
    matplotlib Colorbar
    """
    low, high = image.get_clim()
    room = 0.01 * (high - low)
    with np.errstate(invalid="ignore"):
        below, above = (any((f < low - room).any() for f in fields), any((f > high + room).any() for f in fields))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    # Inset axes follow the axes wherever their aspect and the layout put them.
    cax = ax.inset_axes((1.04, 0, 0.05, 1))
    bar = ax.figure.colorbar(image, cax=cax, extend=extend[bool(below), bool(above)], label=label)
    ticks = nice_ticks(low, high)
    bar.set_ticks(ticks, labels=short_labels(ticks))
    bar.minorticks_off()
    cax.tick_params(labelsize="small")
    return bar


def nice_ticks(low, high):
    """Up to five round numbers between two others."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    room = 1e-6 * (high - low)
    ticks = ticks[(ticks >= low - room) & (ticks <= high + room)]
    return np.where(np.abs(ticks) < room, 0.0, ticks)


def short_labels(numbers):
    """Numbers with as few digits as tell them, as text."""
    numbers = np.asarray(numbers, dtype=np.float64)
    step = np.diff(numbers).min() if len(numbers) > 1 else np.abs(numbers).max(initial=0.0)
    labels: list[str] = []
    for digits in range(1, 17):
        labels = [_rounded(number, digits) for number in numbers]
        if all(abs(float(label) - number) <= 1e-3 * step for label, number in zip(labels, numbers, strict=True)):
            break
    return [label.replace("-", "−") for label in labels]


def _rounded(number, digits):
    text = f"{number:.{digits}g}"
    if 1e-4 <= abs(number) < 1e5 or number == 0:
        return np.format_float_positional(float(text), trim="-")
    return text.replace("e+0", "e").replace("e-0", "e-")


def scientific(number):
    """A number such as an error, in two digits."""
    return f"{number:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def documented(**texts):
    """Class decorator that puts descriptions, which several docstrings share, in the place of their names in braces."""

    def fill(cls):
        for target in (cls, *(getattr(value, "__func__", value) for value in vars(cls).values())):
            if inspect.isclass(target) or inspect.isfunction(target):
                doc = inspect.cleandoc(target.__doc__ or "")
                for name, text in texts.items():
                    doc = doc.replace(f"{{{name}}}", inspect.cleandoc(text))
                if target.__doc__ is not None:
                    target.__doc__ = f"\n{doc}\n" if "\n" in doc else doc
        return cls

    return fill
