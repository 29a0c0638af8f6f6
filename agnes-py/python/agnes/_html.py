"""Rows as a notebook shows them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_NUMBERS = ("INT", "BIGINT", "DOUBLE", "FLOAT", "Decimal", "UInt")


def table(
    names: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[str]],
    are_more: bool,
) -> str:
    """A table of the first rows; whatever stands in them is text."""
    align = ["right" if any(n in kind for n in _NUMBERS) else "left" for kind in types]
    head = "".join(
        f'<th style="text-align:{side}">{escape(name)}<br><small>{escape(kind)}</small></th>'
        for name, kind, side in zip(names, types, align)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{side}">{escape(value)}</td>'
            for value, side in zip(row, align)
        )
        + "</tr>"
        for row in rows
    )
    more = f"<small>the first {len(rows)} rows</small>" if are_more else ""
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
