"""Rows of a table, from the data room, where fine-tuning reads them too."""

from __future__ import annotations

from lossmith.data.rows import KINDS, Row, table_rows

__all__ = ["KINDS", "Row", "table_rows"]
