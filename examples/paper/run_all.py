"""All tables and figures of the paper, one after the other: ``python run_all.py``, with the options that all have.

It can be stopped at any time: what was fitted is not fitted again. At the end stands one table of all results, which is
kept as ``summary.csv`` and ``summary.txt``.
"""

import sys
import traceback

import figure_2
import figure_3
import figure_5
import figure_6
import figures_7_8_9
import pandas as pd
import table_1
import table_2
from _study import NothingToDo, Study, as_text

SCRIPTS = (table_1, table_2, figure_2, figure_3, figure_5, figure_6, figures_7_8_9)


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    tables, failed = [], []
    for script in SCRIPTS:
        print(f"\n=== {script.__doc__.splitlines()[0]}", flush=True)
        try:
            tables.append(script.main(arguments))
        except NothingToDo as nothing_to_do:
            print(nothing_to_do)
        except Exception:  # the others have results to show
            traceback.print_exc()
            failed.append(script.__name__)
    tables = [table for table in tables if table is not None]
    if tables:
        # The rows of beta = 1 are in Table 1 and in Figure 6.
        summary = pd.concat(tables).drop_duplicates(["equation", "data", "model"])
        study = Study(__doc__, table_1.BUDGETS, arguments)
        study.save("summary", summary)
        text = as_text(summary)
        (study.output / "summary.txt").write_text(text)
        print(f"\n=== Summary\n{text}")
    if failed:
        sys.exit(f"Failed, see above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
