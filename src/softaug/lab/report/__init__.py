"""The report: reads the plain record of a comparison, writes one self-contained HTML page."""

from softaug.lab.report.page import run_report, write_report

__all__ = ["run_report", "write_report"]
