"""One picture: a panel of bars for each of the main figures, a bar for each system, whiskers from lowest to highest."""

from xml.sax.saxutils import escape

import figures

PANELS = [
    "CPU, 1 stream up",
    "CPU, 1 stream down",
    "throughput, 1 stream up",
    "throughput, 1 stream down",
    "throughput, 16 streams up",
    "round trip, 1 connection, p50",
    "round trip, 1 connection, p99",
    "round trips, 64 connections",
    "round trips, 1,000 connections",
    "CPU of a round trip, 1,000 connections",
    "new connections",
    "round trip at 500/s beside bulk up, p99",
]

COLUMNS = 2
PANEL_WIDTH = 520
LABEL_WIDTH = 130
VALUE_WIDTH = 70
BAR_HEIGHT = 14
BAR_STEP = 20
TITLE_HEIGHT = 30
MARGIN = 20

OWN_COLOUR = "#1b6ca8"
OTHER_COLOUR = "#a8b4bf"
INK = "#222222"


def draw(runs, names):
    """The whole picture as SVG text; `names` are the systems' names for people."""
    panels = [panel for panel in (_panel(runs, name) for name in PANELS) if panel]
    rows = [panels[at : at + COLUMNS] for at in range(0, len(panels), COLUMNS)]
    parts = []
    top = MARGIN
    for row in rows:
        for column, (figure, bars) in enumerate(row):
            left = MARGIN + column * (PANEL_WIDTH + MARGIN)
            parts += _draw_panel(figure, bars, names, left, top)
        top += TITLE_HEIGHT + max(len(bars) for _, bars in row) * BAR_STEP + MARGIN
    width = MARGIN + COLUMNS * (PANEL_WIDTH + MARGIN)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _panel(runs, name):
    figure = figures.figure_named(name)
    bars = [(system, runs.spread(figure, system)) for system in runs.systems()]
    bars = [(system, found) for system, found in bars if found]
    return (figure, bars) if bars else None


def _draw_panel(figure, bars, names, left, top):
    better = "less is better" if figure.less_is_better else "more is better"
    yield (
        f'<text x="{left}" y="{top + 14}" font-weight="bold">{escape(figure.name)}'
        f'<tspan font-weight="normal" fill="#666666">, {escape(figure.unit)}, {better}</tspan></text>'
    )
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH
    most = max(found.high for _, found in bars) or 1.0

    def across(value):
        return left + LABEL_WIDTH + value / most * room

    for index, (system, found) in enumerate(bars):
        y = top + TITLE_HEIGHT + index * BAR_STEP
        middle = y + BAR_HEIGHT / 2
        colour = OWN_COLOUR if system == "adit" else OTHER_COLOUR
        start, end = across(0), across(found.median)
        low, high = across(found.low), across(found.high)
        yield f'<text x="{start - 6}" y="{middle + 4}" text-anchor="end">{escape(names[system])}</text>'
        yield f'<rect x="{start:.1f}" y="{y}" width="{end - start:.1f}" height="{BAR_HEIGHT}" fill="{colour}"/>'
        yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}"/>'
        for end in (low, high):
            yield f'<line x1="{end:.1f}" x2="{end:.1f}" y1="{middle - 3}" y2="{middle + 3}" stroke="{INK}"/>'
        yield f'<text x="{high + 6:.1f}" y="{middle + 4}">{_short(found.median)}</text>'


def _short(value):
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
