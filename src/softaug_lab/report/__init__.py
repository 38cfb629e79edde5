"""Reports: read the plain record of a comparison and write one self-contained HTML page.

Imports basics, recipes, corruptions and metrics; matplotlib only when something is drawn.
"""

from softaug_lab.report.answer import answer
from softaug_lab.report.page import write_report
from softaug_lab.report.sheet import sample_sheet
from softaug_lab.report.summary import sentences
from softaug_lab.report.tables import arm_rows, shown_metrics
from softaug_lab.report.tuning import tuning_sentences, write_tuning_report

__all__ = [
    "answer",
    "arm_rows",
    "sample_sheet",
    "sentences",
    "shown_metrics",
    "tuning_sentences",
    "write_report",
    "write_tuning_report",
]
