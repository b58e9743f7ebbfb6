"""What each bound alone would take, variant below variant: an SVG of a lesson, from kept predictions."""
from xml.sax.saxutils import escape

COLOURS = {"dram": "#4477aa", "l2": "#66ccee", "load/store": "#228833", "issue": "#ee6677", "tensor": "#aa3377",
           "latency": "#ccbb44", "launch": "#bbbbbb"}
WIDTH, LEFT, BAR, GAP, TOP = 760, 190, 12, 14, 34


def bounds_of(variant):
    """Microseconds by bound, over the launches of the call."""
    sums = {}
    for kernel in variant["kernels"]:
        for bound, seconds in kernel["seconds_of_bounds"].items():
            sums[bound] = sums.get(bound, 0) + seconds * 1e6
    return {bound: us for bound, us in sums.items() if us > 0}


def text(x, y, words, anchor="start", colour="#1f2430", size=12):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def svg(title, rungs):
    """Bars are cut off at four times the second largest variant, and end in an arrow there."""
    variants = [(v, rung.get("note", "")) for rung in rungs for v in rung["variants"] if "error" not in v]
    longest = sorted(max(bounds_of(v).values()) for v, _ in variants)
    most = min(longest[-1], 4 * longest[-2]) if len(longest) > 1 else longest[-1]
    scale = (WIDTH - LEFT - 90) / most
    y, body = TOP, [text(12, 20, title, size=14)]
    for variant, note in variants:
        bounds = bounds_of(variant)
        body.append(text(LEFT - 74, y + 10, variant["variant"], "end"))
        if note:
            body.append(text(LEFT - 74, y + 10 + BAR + 2, note.split(",")[0], "end", "#6b7280", 11))
        for bound, us in bounds.items():
            cut = us > most
            width = max(min(us, most) * scale, 1)
            body.append(text(LEFT - 6, y + 10, bound, "end", "#6b7280", 11))
            body.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{COLOURS[bound]}"/>')
            words = f"{us:.3g} us" if us < 1000 else f"{us:.0f} us"
            body.append(text(LEFT + width + 5, y + 10, ("\u2192 " if cut else "") + words, size=11))
            y += BAR
        y += GAP
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="system-ui,sans-serif">\n'
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n")
