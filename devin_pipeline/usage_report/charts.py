"""The charts, as Altair specifications: each a function of rows, and of nothing else."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import altair as alt

Row = Mapping[str, object]
Spec = dict[str, Any]


class Chart(NamedTuple):
    """A Vega-Lite specification, and the series in it with their colours, for a legend of a page's own."""

    spec: Spec
    series: Sequence[tuple[str, str]] = ()


COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
    *("#7B5EA7", "#B5A300", "#44AA99", "#882255", "#6699CC", "#A6761D"),
)
"""Colour-blind people can distinguish them as well: Okabe and Ito's, then Tol's. Source: https://jfly.uni-koeln.de/color/."""
OTHERS_COLOUR = "#9AA0A6"
OTHERS = "others"
_OUTCOMES = {"merged": "#009E73", "open": "#56B4E9", "closed": "#D55E00", "none": OTHERS_COLOUR}
_STATES = {
    **{"finished": "#009E73", "waiting": "#56B4E9", "running": "#0072B2", "suspended": "#E69F00", "error": "#D55E00"},
}
_SIZES = {"xs": "#C6DBEF", "s": "#9ECAE1", "m": "#4292C6", "l": "#08519C", "xl": "#D55E00", "(none)": OTHERS_COLOUR}
_BANDS = {
    "consumed by sessions": "#0072B2",
    "products without sessions": "#56B4E9",
    "billed, no product named": "#CC79A7",
    "rest of a bill without products": "#E69F00",
    "billed, consumption unknown": "#7B5EA7",
    "consumed, without a bill": OTHERS_COLOUR,
    "residual": "#D55E00",
}
_FEW_TIMES = 14
_IMPACTS = ("high", "medium", "low")

# The colour of the text around a chart, in light and dark.
_INK = "currentColor"
_CONFIG = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelOpacity": 0.8,
        "titleOpacity": 0.8,
        "titleFontWeight": "normal",
        "gridColor": _INK,
        "gridOpacity": 0.12,
        "domainColor": _INK,
        "domainOpacity": 0.25,
        "tickColor": _INK,
        "tickOpacity": 0.25,
        "labelFontSize": 11,
        "titleFontSize": 11,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False},
    # A page's own fits itself to its width.
    "legend": {"disable": True},
}


def acus_over_time(rows: Sequence[Row], series: Sequence[str], *, by_week: bool, period_begins: date | None) -> Chart:
    """ACUs per day or week, stacked; `rows` have `time` (ISO), `series` and `acus`."""
    colours = _colours(series)
    scale = alt.Scale(domain=list(series), range=colours)
    order = {name: place for place, name in enumerate(series)}
    values = [{**row, "place": order[str(row["series"])]} for row in rows]
    bars = (
        alt.Chart(_data(values))
        .mark_bar()
        .encode(
            x=alt.X(
                "time:T",
                timeUnit="utcyearweek" if by_week else "utcyearmonthdate",
                axis=_axis_of_time({str(row["time"]) for row in rows}),
                scale=alt.Scale(type="utc"),
            ),
            y=alt.Y("acus:Q", title=f"ACUs per {'week' if by_week else 'day'}", axis=alt.Axis(tickCount=5)),
            color=alt.Color("series:N", scale=scale),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("time:T", timeUnit="utcyearmonthdate", title="week of" if by_week else "day"),
                alt.Tooltip("series:N", title="organization"),
                alt.Tooltip("acus:Q", title="ACUs", format=",.1f"),
            ],
        )
    )
    if period_begins is None:
        return _chart(bars, 260, series, colours)
    rule = (
        alt.Chart(_data([{"time": f"{period_begins}T00:00:00Z"}]))
        .mark_rule(strokeDash=[4, 4], color=_INK, opacity=0.6)
        .encode(x=alt.X("time:T", timeUnit="utcyearmonthdate"))
    )
    return _chart(alt.layer(bars, rule), 260, series, colours)


def bill(rows: Sequence[Row], bands: Sequence[str], *, by_week: bool) -> Chart:
    """What was billed, stacked; `rows` have `time` (ISO), `band`, `acus`, `status` and `is_closed`.

    What is below 0 hangs below the line: sessions consumed more than was billed.
    """
    colours = [_BANDS.get(band, OTHERS_COLOUR) for band in bands]
    order = {band: place for place, band in enumerate(bands)}
    values = [{**row, "place": order[str(row["band"])]} for row in rows]
    bars = (
        alt.Chart(_data(values))
        .mark_bar()
        .encode(
            x=alt.X(
                "time:T",
                timeUnit="utcyearweek" if by_week else "utcyearmonthdate",
                axis=_axis_of_time({str(row["time"]) for row in rows}),
                scale=alt.Scale(type="utc"),
            ),
            y=alt.Y("acus:Q", title=f"ACUs per {'week' if by_week else 'day'}", axis=alt.Axis(tickCount=5)),
            color=alt.Color("band:N", scale=alt.Scale(domain=list(bands), range=colours)),
            opacity=alt.condition("datum.is_closed", alt.value(1), alt.value(0.45)),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("time:T", timeUnit="utcyearmonthdate", title="week of" if by_week else "day"),
                alt.Tooltip("band:N", title="part"),
                alt.Tooltip("acus:Q", title="ACUs", format=",.1f"),
                alt.Tooltip("status:N", title="days" if by_week else "day is"),
            ],
        )
    )
    zero = alt.Chart(_data([{"acus": 0}])).mark_rule(color=_INK, opacity=0.5).encode(y="acus:Q")
    return _chart(alt.layer(bars, zero), 240, bands, colours)


def cost_by_week(rows: Sequence[Row], enough: int) -> Chart:
    """ACUs per merged pull request; `rows` have `week`, `kind`, `acus` and `merged`. Fewer than `enough` are greyed."""
    values = [{**row, "is_small": _number(row["merged"]) < enough} for row in rows]
    x = alt.X(
        "week:T",
        timeUnit="utcyearmonthdate",
        axis=_axis_of_time({str(row["week"]) for row in rows}),
    )
    y = alt.Y("acus:Q", title="ACUs per merged pull request", axis=alt.Axis(tickCount=5))
    kinds = ["all sessions", "merging sessions"]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=list(COLOURS[:2])))
    base = alt.Chart(_data(values))
    lines = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    points = base.mark_point(filled=True, size=50, opacity=1).encode(
        x=x,
        y=y,
        color=alt.condition("datum.is_small", alt.value(OTHERS_COLOUR), colour),
        tooltip=[
            alt.Tooltip("week:T", timeUnit="utcyearmonthdate", title="week of"),
            alt.Tooltip("kind:N", title="ACUs of"),
            alt.Tooltip("acus:Q", title="ACUs each", format=",.1f"),
            alt.Tooltip("merged:Q", title="merged pull requests"),
        ],
    )
    return _chart(alt.layer(lines, points), 240, kinds, COLOURS[:2])


def outcomes(rows: Sequence[Row]) -> Chart:
    """Where ACUs went; `rows` have `outcome`, `acus` and `sessions`."""
    return _shares(rows, "outcome", _OUTCOMES)


def sizes(rows: Sequence[Row]) -> Chart:
    """ACUs by size of session, a bar for each organization; `rows` have `organization`, `size`, `acus`, `sessions`."""
    return _shares(rows, "size", _SIZES, by="organization")


def states(rows: Sequence[Row]) -> Chart:
    """ACUs by state; `rows` have `state`, `acus` and `sessions`."""
    return _shares(rows, "state", _STATES)


def heat_map(rows: Sequence[Row]) -> Chart:
    """Sessions by label and impact of their issues; `rows` have `label`, `impact` and `sessions`."""
    impacts = sorted(
        {str(row["impact"]) for row in rows},
        key=lambda impact: (_IMPACTS.index(impact.lower()) if impact.lower() in _IMPACTS else 9, impact),
    )
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    most = max((_number(row["sessions"]) for row in rows), default=1)
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("impact:N", sort=impacts, axis=alt.Axis(title=None, orient="top", labelAngle=0)),
        y=alt.Y("label:N", sort=labels, axis=alt.Axis(title=None, labelLimit=180)),
        tooltip=["label:N", "impact:N", "sessions:Q"],
    )
    squares = base.mark_rect(cornerRadius=3).encode(
        color=alt.Color("sessions:Q", scale=alt.Scale(range=["#DEEBF7", "#08519C"], domain=[0, most]), legend=None)
    )
    counts = base.mark_text(fontSize=12).encode(
        text="sessions:Q",
        color=alt.condition(f"datum.sessions > {most / 2}", alt.value("white"), alt.value("#1b2430")),
    )
    return _chart(alt.layer(squares, counts), 34 * max(1, len(labels)) + 10)


def _shares(rows: Sequence[Row], column: str, colours: Mapping[str, str], by: str | None = None) -> Chart:
    known = [name for name in colours if any(row[column] == name for row in rows)]
    others = [str(row[column]) for row in rows if row[column] not in colours]
    domain = [*known, *others]
    palette = [*(colours[name] for name in known), *_colours(others)]
    order = {name: place for place, name in enumerate(domain)}
    values = [{**row, "place": order[str(row[column])]} for row in rows]
    bars = [] if by is None else list(dict.fromkeys(str(row[by]) for row in rows))
    y = alt.Y(f"{by}:N", sort=bars, axis=alt.Axis(title=None, labelLimit=110)) if by else alt.Undefined
    return _chart(
        alt.Chart(_data(values))
        .mark_bar(height=22 if by else 34)
        .encode(
            x=alt.X(
                "acus:Q",
                stack="normalize",
                axis=alt.Axis(title="share of ACUs", format="%", tickCount=5),
            ),
            y=y,
            color=alt.Color(f"{column}:N", scale=alt.Scale(domain=domain, range=palette)),
            order=alt.Order("place:Q"),
            tooltip=[
                *([alt.Tooltip(f"{by}:N")] if by else []),
                alt.Tooltip(f"{column}:N"),
                alt.Tooltip("acus:Q", title="ACUs", format=",.1f"),
                alt.Tooltip("sessions:Q", format=","),
            ],
        ),
        28 * len(bars) if by else 44,
        domain,
        palette,
    )


def _colours(names: Sequence[str]) -> list[str]:
    return [OTHERS_COLOUR if name == OTHERS else COLOURS[place % len(COLOURS)] for place, name in enumerate(names)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _axis_of_time(times: Collection[str]) -> alt.Axis:
    """Days by month and day; with the year where there are several, and each but once where there are few."""
    form = "%b %Y" if len({time[:4] for time in times}) > 2 else "%b %d"
    ticks = sorted(times) if len(times) <= _FEW_TIMES else alt.Undefined
    return alt.Axis(title=None, format=form, labelOverlap=True, labelSeparation=8, values=ticks)


def _data(rows: Sequence[Row]) -> alt.Data:
    return alt.Data(values=[dict(row) for row in rows])  # type: ignore[no-untyped-call] # it is generated


def _chart(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    height: int,
    series: Sequence[str] = (),
    colours: Sequence[str] = (),
) -> Chart:
    spec = {**chart.to_dict(), "width": "container", "height": height, "config": _CONFIG}
    return Chart(spec, list(zip(series, colours, strict=True)))
