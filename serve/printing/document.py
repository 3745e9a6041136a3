"""The PDF document: what stands on every page, and the boxes and tables that pages are made of."""

from collections.abc import Sequence
from datetime import datetime

from fpdf import FPDF
from fpdf.enums import CellBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from serve.printing.fonts import FAMILY, add_fonts
from serve.schemas import PredictResponse

DISCLAIMER = str(PredictResponse.model_fields["notice"].default)
INK, QUIET = (20, 20, 20), (95, 90, 88)
ALARM, ALARM_PAPER = (176, 0, 32), (253, 232, 232)
CAUTION, CAUTION_PAPER = (138, 83, 0), (255, 243, 214)
_RULE, _HEAD_PAPER = (205, 200, 200), (241, 238, 238)
_MARGIN_MM, _BOTTOM_MM = 13.5, 16.0
_LINE = 1.38
"""Distance of lines in heights of letters."""


class Document(FPDF):
    """Pages in A4 with the disclaimer, the reference and their number at the foot. Equal content, equal bytes."""

    def __init__(self, *, title: str, reference: str, printed_at: datetime) -> None:
        super().__init__(orientation="landscape", unit="mm", format="A4")
        self.reference, self.printed_at = reference, printed_at
        self.set_title(title)
        self.set_lang("en")
        self.set_producer("HuBERT-ECG")
        self.set_creation_date(printed_at)
        self.set_margins(_MARGIN_MM, 10.0)
        self.set_auto_page_break(True, margin=_BOTTOM_MM)
        add_fonts(self)
        self.write_in(9)

    def write_in(self, points: float, *, bold: bool = False, colour: tuple[int, int, int] = INK) -> None:
        """From here on."""
        self.set_font(FAMILY, "B" if bold else "", points)
        self.set_text_color(*colour)

    def footer(self) -> None:
        self.set_y(-11)
        self.write_in(7.5, bold=True, colour=ALARM)
        self.cell(self.epw - 20, 4, DISCLAIMER)
        self.write_in(6.5, colour=QUIET)
        self.cell(20, 4, f"{self.page_no()}/{{nb}}", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.cell(0, 3, f"{self.reference}   printed {self.printed_at:%Y-%m-%d %H:%M}")

    def heading(self, text: str) -> None:
        """A section's title, which does not stand alone at the foot of a page."""
        if self.will_page_break(24):
            self.add_page(same=True)
        self.ln(2.5)
        self.write_in(11, bold=True)
        self.cell(0, 6, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(0.8)

    def paragraph(
        self, text: str, *, points: float = 9, colour: tuple[int, int, int] = INK, bold: bool = False
    ) -> None:
        self.write_in(points, colour=colour, bold=bold)
        self.multi_cell(0, _height_mm(points), text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def box(self, title: str, lines: Sequence[str], *, severe: bool) -> None:
        """What must not be overlooked."""
        ink, paper = (ALARM, ALARM_PAPER) if severe else (CAUTION, CAUTION_PAPER)
        sides = CellBordersLayout.LEFT | CellBordersLayout.RIGHT
        self.write_in(9)
        with (
            self.local_context(draw_color=ink, line_width=0.4),
            self.table(first_row_as_headings=False, line_height=_height_mm(9), padding=(0.7, 1.5)) as table,
        ):
            for place, line in enumerate([f"⚠ {title}", *lines]):
                edges = sides | (CellBordersLayout.TOP if place == 0 else sides)
                edges |= CellBordersLayout.BOTTOM if place == len(lines) else sides
                look = FontFace(fill_color=paper, color=INK if place else ink, emphasis=None if place else "B")
                table.row().cell(line, style=look, border=edges)
        self.ln(1.5)

    def pairs(self, rows: Sequence[Sequence[str]], *, title_mm: float) -> None:
        """Titles and texts, without lines."""
        self.write_in(8.5)
        widths = (title_mm, self.epw - title_mm)
        with self.table(
            col_widths=widths, borders_layout="NONE", first_row_as_headings=False, line_height=_height_mm(8.5)
        ) as table:
            for title, text in rows:
                row = table.row()
                row.cell(title, style=FontFace(color=QUIET))
                row.cell(text)
        self.ln(1.5)

    def grid(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        *,
        marked: Sequence[bool] = (),
        points: float = 8.5,
    ) -> None:
        """A table under a head that comes again on each page; marked rows are bold."""
        self.write_in(points)
        with (
            self.local_context(draw_color=_RULE, line_width=0.15),
            self.table(
                col_widths=tuple(widths),
                borders_layout="HORIZONTAL_LINES",
                headings_style=FontFace(emphasis="B", fill_color=_HEAD_PAPER, color=INK),
                line_height=_height_mm(points),
                padding=(0.8, 1.2),
                text_align="LEFT",
            ) as table,
        ):
            table.row(head)
            for place, cells in enumerate(rows):
                bold = place < len(marked) and marked[place]
                table.row(cells, style=FontFace(emphasis="B") if bold else None)


def _height_mm(points: float) -> float:
    return points * 25.4 / 72 * _LINE
