# rcore/cli/chart.py: the recompute-offload-keep curve as SVG, with hand-written policies as dots.
"""Peak of the fullest rank against step time; nothing but text is written, no plotting library
is needed."""

from __future__ import annotations

import html
from typing import Any

from rcore.errors import Error
from rcore.plan.library import make_plan

__all__ = ["draw"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 520, 70, 40, 30, 60
_POINTS = 28


def _curve(request: dict[str, Any], options: list[str]) -> list[tuple[float, float]]:
    """(peak, step) at budgets from the least that has a plan up to keeping everything."""
    points = []
    for i in range(_POINTS):
        fraction = 1 - i / _POINTS * 0.97
        try:
            report = make_plan(
                request | {"options": options, "budget_fraction": fraction, "compare": False}
            )
        except Error:
            break
        points.append((max(r["peak_bytes"] for r in report["ranks"]), report["step_seconds"]))
    return points


def _ticks(low: float, high: float, count: int = 6) -> list[float]:
    step = (high - low) / count or 1
    return [low + i * step for i in range(count + 1)]


def draw(request: dict[str, Any], report: dict[str, Any]) -> str:
    """SVG text."""
    curves = [("recompute only", "#1f77b4", _curve(request, ["recompute"])),
              ("recompute and offload", "#2ca02c", _curve(request, ["recompute", "offload"]))]
    dots = [(h["peak_bytes"], h["step_seconds"], h["flags"]) for h in report["hand_policies"]]
    plan = (max(r["peak_bytes"] for r in report["ranks"]), report["step_seconds"])
    least = min(y for _, _, c in curves for _, y in c)
    worst = max([y for _, _, c in curves for _, y in c] + [y for _, y, _ in dots])
    widest = max([x for _, _, c in curves for x, _ in c] + [x for x, _, _ in dots]) * 1.02
    top = max((worst / least - 1) * 105, 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return (_LEFT + x / widest * (_WIDTH - _LEFT - _RIGHT),
                _HEIGHT - _BOTTOM - (y / least - 1) * 100 / top * (_HEIGHT - _TOP - _BOTTOM))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{html.escape(report["model"])} on '
        f'{html.escape(report["hardware"])}: '
        "memory against time</text>",
    ]
    for tick in _ticks(0, widest):
        x, y = at(tick, least)
        out.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{_TOP}" stroke="#eee"/>'
            f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick / 1e9:.1f}</text>'
        )
    for tick in _ticks(0, top):
        x, y = at(0, least * (1 + tick / 100))
        out.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#eee"/>'
            f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
        )
    out.append(
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 16}" text-anchor="middle">peak of activations on '
        'the fullest rank, GB</text>'
        f'<text transform="translate(18 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">step '
        'time, % above keeping all</text>'
    )
    for x, y, flags in dots:
        px, py = at(x, y)
        out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="#d62728" fill-opacity="0.5">'
                   f"<title>{html.escape(flags)}</title></circle>")
    for i, (name, colour, points) in enumerate(curves):
        line = " ".join("{:.1f},{:.1f}".format(*at(*p)) for p in points)
        out.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{_WIDTH - 220}" y="{_TOP + 16 * i + 10}" fill="{colour}">{name}</text>'
        )
    px, py = at(*plan)
    out.append(
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="6" fill="none" stroke="black" '
        'stroke-width="2"><title>the plan</title></circle>'
        f'<text x="{_WIDTH - 220}" y="{_TOP + 42}" fill="#d62728">Megatron\'s settings</text>'
        f'<text x="{_WIDTH - 220}" y="{_TOP + 58}">the plan (circle)</text></svg>'
    )
    return "\n".join(out) + "\n"
