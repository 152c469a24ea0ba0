"""A table that shows every cell whole, however narrow the window is.

Where it does not fit, the last column is folded if it is text; else the columns go on in parts
below one another, each with the first ones again; and where not even that has room, each row
becomes lines of a column's name and its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import JustifyMethod

GAP: Final = 2  # columns between two of a table's
# Text in a column that is narrower reads worse than in lines of its own; arbitrary.
LEAST_TEXT: Final = 24


class Fitted:
    """Rows under named columns; those from ``right`` up to ``until`` hold numbers.

    The first ``keys`` columns say what a row is of. Cells are plain text.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: int,
        until: int,
        keys: int,
    ) -> None:
        self._columns = columns
        self._rows = rows
        self._numbers = range(right, until)
        self._keys = keys
        self._widths = [
            max(map(cell_len, (name, *(row[at] for row in rows))))
            for at, name in enumerate(columns)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, part in enumerate(self.parts(options.max_width)):
            if number:
                yield Text()
            yield part

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(1, self._wide(range(len(self._columns)))))

    def height(self, width: int) -> int:
        """Lines that it takes in a window of that width, those of folded cells not counted."""
        parts = list(self.parts(width))
        return sum(part.row_count + part.show_header for part in parts) + len(parts) - 1

    def parts(self, width: int) -> Iterator[Table]:
        """The tables to show one below the other in a window of that width."""
        every = range(len(self._columns))
        spare = width - self._wide(every[:-1]) - GAP
        if self._wide(every) <= width or (self._ends_with_text() and spare >= LEAST_TEXT):
            yield self._table(every, spare)
        elif groups := self._groups(width):
            for group in groups:
                yield self._table(group, width)
        else:
            for row in self._rows:
                yield self._lines(row, width)

    def _ends_with_text(self) -> bool:
        return len(self._columns) - 1 not in self._numbers

    def _wide(self, group: Sequence[int]) -> int:
        return sum(self._widths[at] for at in group) + GAP * max(0, len(group) - 1)

    def _groups(self, width: int) -> list[list[int]]:
        """Columns to show together, each time with the keys; none where they do not fit so.

        Nor where all are text: one tells of the other, and they belong together.
        """
        if not any(at in self._numbers for at in range(len(self._columns))):
            return []
        keys = list(range(self._keys))
        groups: list[list[int]] = []
        for at in range(self._keys, len(self._columns)):
            if self._wide([*keys, at]) > width:
                return []
            if not groups or self._wide([*groups[-1], at]) > width:
                groups.append(list(keys))
            groups[-1].append(at)
        return groups

    def _table(self, group: Sequence[int], spare: int) -> Table:
        """Those columns; the last of all has ``spare`` columns of the window."""
        made = Table(box=None, pad_edge=False, header_style="bold")
        for at in group:
            justify: JustifyMethod = "right" if at in self._numbers else "left"
            width = self._widths[at]
            if at == len(self._columns) - 1:
                width = min(width, spare)
            made.add_column(self._columns[at], justify=justify, overflow="fold", width=width)
        for row in self._rows:
            made.add_row(*(Text(row[at]) for at in group))
        return made

    def _lines(self, row: Sequence[str], width: int) -> Table:
        made = Table(box=None, pad_edge=False, show_header=False)
        label = max(map(cell_len, self._columns))
        made.add_column(style="bold", width=label)
        made.add_column(overflow="fold", width=max(1, width - label - GAP))
        for name, cell in zip(self._columns, row, strict=True):
            made.add_row(Text(name), Text(cell))
        return made
