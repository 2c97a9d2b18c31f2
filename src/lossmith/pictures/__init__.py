"""pictures: curves as SVG, PNG and characters, and the page they stand on (numpy; matplotlib only to write a PNG)."""

from __future__ import annotations

from lossmith.pictures.panel import Line, Mark, Panel, loss_panel, side_panels, write_picture

__all__ = ["Line", "Mark", "Panel", "loss_panel", "side_panels", "write_picture"]
