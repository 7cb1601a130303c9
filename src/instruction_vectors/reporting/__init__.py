"""Results to one self-contained HTML report, Markdown and LaTeX tables, and SVG figures."""

from .latex import write_latex
from .markdown import write_markdown, write_summary
from .pictures import figure_svg
from .report import write_report

__all__ = ["figure_svg", "write_latex", "write_markdown", "write_report", "write_summary"]
