"""The report: reads the plain record of a comparison, writes one self-contained HTML page."""

from softaug_lab.report.drawings import sample_sheet
from softaug_lab.report.page import write_report
from softaug_lab.report.summary import sentences
from softaug_lab.report.tables import arm_rows, shown_columns

__all__ = ["arm_rows", "sample_sheet", "sentences", "shown_columns", "write_report"]
