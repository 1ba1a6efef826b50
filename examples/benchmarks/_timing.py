"""Interleaved timing: the contenders take turns, so that a slow spell of the machine hits all of them."""

import statistics
import time


def interleaved_medians(contenders, rounds=15, calls=8):
    """Median seconds of a call of each contender.

    Parameters
    ----------
    contenders : dict of str to callable
        Functions without arguments.
    rounds : int, default=15
        How often every contender has its turn.
    calls : int, default=8
        Timed calls in a turn, after one that warms up.

    Returns
    -------
    dict of str to float
    """
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            call()
            for _ in range(calls):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
