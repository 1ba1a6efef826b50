"""All tables and figures of the paper, one after the other: ``python run_all.py``, with the options that all have.

It can be stopped at any time: what was fitted is not fitted again. At the end stands one table of all results, which is
kept as ``summary.csv`` and ``summary.txt``.
"""

import sys

import figure_2
import figure_3
import figure_5
import figure_6
import figures_7_8_9
import pandas as pd
import table_1
import table_2
from _study import NoSuchModel, Study, as_text

SCRIPTS = (table_1, table_2, figure_2, figure_3, figure_5, figure_6, figures_7_8_9)


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    for script in SCRIPTS:
        print(f"\n=== {script.__doc__.splitlines()[0]}", flush=True)
        try:
            script.main(arguments)
        except NoSuchModel as nothing_to_do:
            print(nothing_to_do)
    study = Study(__doc__, table_1.BUDGETS, arguments)
    paths = [study.output / f"{name}.csv" for name in ("table_1", "table_2", "figure_2", "figure_3", "figure_6")]
    summary = pd.concat([pd.read_csv(path, comment="#") for path in paths if path.exists()]).drop_duplicates(
        ["equation", "data", "model"]
    )
    summary["paper_parameters"] = summary["paper_parameters"].fillna("")
    study.save("summary", summary)
    text = as_text(summary)
    (study.output / "summary.txt").write_text(text)
    print(f"\n=== Summary\n{text}")


if __name__ == "__main__":
    main()
