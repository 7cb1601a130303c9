"""Results to one self-contained HTML report, Markdown tables and SVG figures."""

from .markdown import write_markdown, write_summary
from .pictures import figure_svg
from .report import write_report

__all__ = ["figure_svg", "write_markdown", "write_report", "write_summary"]
