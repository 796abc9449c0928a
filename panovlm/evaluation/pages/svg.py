"""Elements of charts as strings of SVG; colours are classes that the page's style sheet defines."""

import math
from collections.abc import Sequence
from html import escape


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Give a whole picture; its title is read out by screen readers."""
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return "\n".join([opening, *parts, "</svg>"])


def line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    """Give a straight line of a class."""
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def rect(x: float, y: float, width: float, height: float, name: str, tip: str) -> str:
    """Give a rectangle of a class, at least visible, with a tip under the pointer."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}"'
    return f'<rect class="{name}" {place} rx="2"><title>{escape(tip)}</title></rect>'


def text(x: float, y: float, said: str, name: str) -> str:
    """Give a text of a class at its baseline."""
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'


def circle(x: float, y: float, radius: float, name: str) -> str:
    """Give a circle of a class."""
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def wedge(
    centre: tuple[float, float], radius: float, angles_deg: tuple[float, float], name: str, tip: str
) -> str:
    """Give a slice of a disc between two angles, clockwise from the top, with a tip."""
    (x1, y1), (x2, y2) = (polar(centre, radius, angle) for angle in angles_deg)
    far = int(angles_deg[1] - angles_deg[0] > 180)
    path = (
        f"M{centre[0]:.1f},{centre[1]:.1f} L{x1:.1f},{y1:.1f} "
        f"A{radius:.1f},{radius:.1f} 0 {far} 1 {x2:.1f},{y2:.1f} Z"
    )
    return f'<path class="{name}" d="{path}"><title>{escape(tip)}</title></path>'


def polar(centre: tuple[float, float], radius: float, angle_deg: float) -> tuple[float, float]:
    """Give a point by its distance from a centre and its angle, clockwise from the top."""
    angle = math.radians(angle_deg)
    return centre[0] + radius * math.sin(angle), centre[1] - radius * math.cos(angle)
