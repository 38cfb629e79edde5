"""The report: reads the plain record of a comparison, writes one self-contained HTML page."""

from softaug.lab.report.page import write_report

__all__ = ["write_report"]
