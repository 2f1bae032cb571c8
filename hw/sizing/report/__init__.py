"""A sizing's report: report.html, which needs nothing else, and the same as sizing.json, sizing.csv and sizing.md."""

from __future__ import annotations

from hw.sizing.conductor import Conductor
from hw.sizing.report.content import Content, content_of
from hw.sizing.report.exports import console_text, csv_text, json_text, markdown_text
from hw.sizing.report.page import html_page
from qmodels.storage import write_bytes

FILES = {"report.html": html_page, "sizing.json": json_text, "sizing.csv": csv_text, "sizing.md": markdown_text}


def write_reports(conductor: Conductor) -> Content:
    """Write all of them into the sizing's folder."""
    content = content_of(conductor)
    for name, text in FILES.items():
        write_bytes(conductor.folder / name, text(content).encode())
    return content


__all__ = ["FILES", "Content", "console_text", "content_of", "write_reports"]
