"""Markdown tables from kept predictions, put between marker comments: `<!-- ladder NAME -->` and `<!-- /ladder -->`."""
import json
import re
import sys

import bars

MARKED = re.compile(r"(<!-- ladder ([\w-]+) -->\n).*?(<!-- /ladder -->)", re.DOTALL)
NETWORKS = {"mobilenet_v3_small": "MobileNetV3-Small", "resnet18": "ResNet18", "squeezenet1_1": "SqueezeNet 1.1",
            "efficientnet_v2_s": "EfficientNetV2-S", "shufflenet_v2_x1_0": "ShuffleNetV2 x1.0"}
SHORT = {"mobilenet_v3_small": "MBV3", "resnet18": "RN18", "squeezenet1_1": "SQ", "efficientnet_v2_s": "EV2",
         "shufflenet_v2_x1_0": "SHUF"}
RELEVANT = 0.005  # of a pass: what takes less in all of them is left out
APART = 1.5


class TableError(Exception):
    """A page that cannot be filled in, in one line."""


def markdown(rows):
    head, *body = rows
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body)]


def plain(rows):
    """For terminals."""
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.replace("`", "").ljust(w) for cell, w in zip(row, width)).rstrip() for row in rows]


def ratio(found, ideal):
    return f"{found / ideal:.2f}" if ideal else "-"


def figure(value):
    """Three digits: 1.7, 42, 1230."""
    return f"{float(f'{value:.3g}'):g}" if value < 1000 else f"{value:.0f}"


def percent(share):
    return "-" if not share else f"{share:.0f}" if share >= 10 else f"{share:.2g}"


def same_limit(rung):
    """Per cent of the limit of the work itself: a variant of several calls moves more bytes, which are no merit."""
    done = [v for v in rung["variants"] if "error" not in v]
    least = min((v["percent_of_limit"] or 0) * v["predicted_seconds"] for v in done)
    return dict(rung, variants=[v if "error" in v else dict(v, percent_of_limit=least / v["predicted_seconds"])
                                for v in rung["variants"]])


def microseconds(call, seconds="predicted_seconds", low="predicted_seconds_low", high="predicted_seconds_high"):
    return f"{figure(call[seconds] * 1e6)} ({figure(call[low] * 1e6)} to {figure(call[high] * 1e6)})"


def extents(shape):
    return "x".join(map(str, shape)) or "1"


def shape_text(call):
    """The image's way, with the filter where there is one: `56x56x64 > 56x56x64, 64x3x3x64`."""
    if call["class"] == "optimizer" or not call["read"] or not call["written"]:
        return "all parameters" if call["class"] == "optimizer" else extents((call["written"] or call["read"] or [[]])[0])
    more = [extents(s) for s in call["read"][1:2] if len(s) >= 2]
    return f"{extents(call['read'][0])} > {extents(call['written'][0])}" + (f", {more[0]}" if more else "")


def asked(call):
    """Sectors and wavefronts over those that the bytes need, occupancy, what holds it up, per cent of the limit."""
    return [ratio(call["sectors"], call["ideal_sectors"]), ratio(call["wavefronts"], call["ideal_wavefronts"]),
            percent(call["occupancy"] * 100), f"{call['bound']}, {call['second_bound']}", percent(call["percent_of_limit"])]


ASKED = ["sectors", "wavefronts", "% occupancy", "bound, next", "% of limit"]


def variant_rows(rungs, with_slot=True):
    rows = [(["slot, call"] if with_slot else []) + ["variant", "predicted us", *ASKED]]
    for rung in map(same_limit, rungs):
        first = True
        for v in rung["variants"]:
            call = f"`{rung['slot']}` " + next((x["shapes"] for x in rung["variants"] if "shapes" in x), "")
            call += f", {rung.get('note', '')}" if rung.get("note") else ""
            call += f", batch {rung['batch']}" if rung.get("batch", 256) != 256 else ""
            head = ([call if first else ""] if with_slot else []) + [f"`{v['variant']}`"]
            rows.append(head + ([microseconds(v), *asked(v)] if "error" not in v else ["does not take this call"] + ["-"] * 5))
            first = False
    return rows


# What lessons look at.
COLUMNS = {
    "us": ("predicted us", microseconds),
    "limit": ("% of limit", lambda v: percent(v["percent_of_limit"])),
    "bound": ("held up by", lambda v: f"{v['bound']}, {v['second_bound']}"),
    "requests": ("requests, thousands", lambda v: figure(v["requests"] / 1e3)),
    "sectors": ("sectors, thousands", lambda v: figure(v["sectors"] / 1e3)),
    "per_request": ("sectors a request", lambda v: ratio(v["sectors"], v["requests"])),
    "sector_ratio": ("over ideal", lambda v: ratio(v["sectors"], v["ideal_sectors"])),
    "l2": ("MB from L2", lambda v: figure(v["l2_bytes"] / 1e6)),
    "bytes": ("MB that must move", lambda v: figure(v["bytes"] / 1e6)),
    "wavefronts": ("wavefronts, thousands", lambda v: figure(v["wavefronts"] / 1e3)),
    "wavefront_ratio": ("over ideal", lambda v: ratio(v["wavefronts"], v["ideal_wavefronts"])),
    "flight": ("bytes a warp awaits", lambda v: figure(v["bytes_in_flight"])),
    "instructions": ("instructions, millions", lambda v: figure(v["instructions"] / 1e6)),
    "mma": ("multiply-adds on tensor cores over needed", lambda v: ratio(v["mma"] * 16 * 8 * 16, v["macs"])),
    "launches": ("launches", lambda v: f"{v['launches']:.0f}"),
}


def lesson_rows(lesson, rungs):
    columns = [COLUMNS[name] for name in lesson["columns"]]
    rows = [["variant"] + [title for title, _ in columns]]
    for rung in map(same_limit, rungs):
        for v in rung["variants"]:
            name = f"`{v['variant']}`" + (f", {rung['note']}" if rung.get("note") else "")
            rows.append([name] + (["does not take this call"] + [""] * (len(columns) - 1) if "error" in v else
                                  [value(v) for _, value in columns]))
    return rows


def beside(found, others):
    """A figure, and in brackets what it is set against: `56 (54)`, `68.3 (49.7; 91.1)`."""
    others = [figure(other) for other in others if other]
    return figure(found) + (f" ({'; '.join(others)})" if others else "")


def network_rows(kept, passes):
    smaller = sorted({int(batch) for n in kept["networks"] for batch in n["smaller_batches"]})
    rows = [["network", "pass", "launches", "MB an image", *(f"us, batch {batch}" for batch in smaller),
             f"us, batch {kept['networks'][0]['batch']}", "thousand images/s", "% of fused", "% of its calls", "most time"]]
    for n in kept["networks"]:
        by_slot = {}
        for c in n["calls"]:
            name = f"`{c['slot']}`"
            by_slot[name] = by_slot.get(name, 0) + c["calls"] * c["predicted_seconds"]
        most = sorted(by_slot.items(), key=lambda item: -item[1])[:2]
        known = passes.get(f"{n['model']} {n['mode']}", {}) if n["size"] == 224 else {}
        launches, megabytes, rates = zip(known["fused"], known["before"]) if known else [[]] * 3
        rate = n["batch"] / n["seconds"] / 1e3
        times = [*(n["smaller_batches"][str(batch)] for batch in smaller), n]
        rows.append([NETWORKS[n["model"]], n["mode"], beside(n["launches"], launches),
                     beside(n["bytes"] / n["batch"] / 1e6, megabytes), *(microseconds(one, "seconds", "low", "high") for one in times),
                     beside(rate, rates), percent(100 * rate / rates[0]) if known else "-", percent(n["share_of_limit"] * 100),
                     ", ".join(f"{name} {seconds / n['seconds']:.0%}" for name, seconds in most)])
    return rows


def kernel_rows(kept):
    """Of each kernel the call that takes most of a pass."""
    heaviest = {}
    for n in kept["networks"]:
        for c in n["calls"]:
            if c["launches"] == 0:
                continue
            kind = {"pointwise": ", 1x1"}.get(c["class"], "") if c["slot"].startswith("conv2d.") else ""
            name = f"`{c['slot']}/{c['variant']}`{kind}"
            one = heaviest.setdefault(name, {"share": 0, "most": 0})
            share = c["calls"] * c["predicted_seconds"] / n["seconds"]
            one.setdefault(n["model"] + n["mode"], [0, 0])
            one[n["model"] + n["mode"]][0] += share
            one[n["model"] + n["mode"]][1] += c["calls"] * c["launches"]
            if share > one["most"]:
                one.update(most=share, call=c, network=n)
    rows = [["kernel", "heaviest call", "pass", "% of it", "launches", "predicted us", *ASKED]]
    order = []
    for name, one in heaviest.items():
        share, launches = one[one["network"]["model"] + one["network"]["mode"]]
        if max(v[0] for v in one.values() if isinstance(v, list)) >= RELEVANT:
            order.append((name, one, share, launches))
    for name, one, share, launches in sorted(order, key=lambda o: o[0]):
        rows.append([name, shape_text(one["call"]), f"{SHORT[one['network']['model']]} {one['network']['mode']}",
                     f"{share * 100:.1f}", f"{launches:.0f}", microseconds(one["call"]), *asked(one["call"])])
    return rows


def matching(kept, wanted):
    for n in kept["networks"]:
        if (n["model"], n["mode"]) != (wanted["model"], wanted["mode"]):
            continue
        for c in n["calls"]:
            if c["slot"] == wanted["slot"] and c["read"][:1] == [wanted["read"]] and \
                    ("written" not in wanted or c["written"][:1] == [wanted["written"]]) and \
                    ("filter" not in wanted or wanted["filter"] in c["read"] + c["written"]):
                return c
    return None


def estimate_rows(kept, estimates):
    rows = [["kernel then", "call", "estimated by hand", "kernel now", "predicted", "range", *ASKED[:4], "why they differ"]]
    for e in estimates:
        call = matching(kept, e)
        if call is None:
            print(f"ladder: no call like that of the estimate '{e['kernel']}, {e['call']}'", file=sys.stderr)
            rows.append([e["kernel"], e["call"], e["estimated"], *["-"] * 7, "the network does not make this call"])
            continue
        if not call["predicted_seconds"]:  # its time is that of the calls in it
            rows.append([e["kernel"], e["call"], e["estimated"], f"`{call['variant']}`", *["-"] * 6, "now separate operations"])
            continue
        if e["unit"] == "us":
            value, low, high = (call[k] * 1e6 for k in ("predicted_seconds", "predicted_seconds_low", "predicted_seconds_high"))
        else:
            share = call["percent_of_limit"] or 0
            value = share
            low, high = (share * call["predicted_seconds"] / call[k] for k in ("predicted_seconds_high", "predicted_seconds_low"))
        middle = sum(e["range"]) / len(e["range"])
        better = value > middle if e["unit"] == "%" else value < middle
        why = ""
        if max(value / middle, middle / value) > APART:
            why = e.get("better" if better else "worse", "")
            if not better and call["bound"] == "issue" and not kept.get("machine_code"):
                why = "instructions are estimated from the host's code, which has more" + (f"; {why}" if why else "")
            if not why:
                print(f"ladder: nobody says why '{e['kernel']}, {e['call']}' differs from its estimate", file=sys.stderr)
                why = "not explained"
        rows.append([e["kernel"], e["call"], e["estimated"], f"`{call['variant']}`", f"{figure(value)} {e['unit']}",
                     f"{figure(low)} to {figure(high)}", *asked(call)[:4], why])
    return rows


def replace_marked(path, blocks):
    """True when the file has markers; complains where a marker has no table."""
    text = path.read_text()
    found = set()

    def fill(match):
        found.add(match[2])
        if match[2] not in blocks:
            raise TableError(f"{path}: there is no table '{match[2]}', only {', '.join(sorted(blocks))}")
        return match[1] + "\n".join(blocks[match[2]]) + "\n" + match[3]
    changed = MARKED.sub(fill, text)
    if text.count("<!-- ladder ") != len(MARKED.findall(text)) or text.count("<!-- /ladder -->") != text.count("<!-- ladder "):
        raise TableError(f"{path}: a marker is not closed")
    if changed != text:
        path.write_text(changed)
    return found


def write_all(root, results, settings):
    """Every table whose predictions are kept, in every file that has its marker."""
    blocks = {}
    if (results / "networks.json").exists():
        kept = json.loads((results / "networks.json").read_text())
        for network in kept["networks"]:
            network["calls"] = [dict(zip(network["columns"], call)) for call in network["calls"]]
        blocks["networks"] = markdown(network_rows(kept, settings["passes"])) + [
            "", f"All of them were counted in {kept['took_seconds']} seconds."]
        blocks["kernels"] = markdown(kernel_rows(kept))
        blocks["estimates"] = markdown(estimate_rows(kept, settings["estimates"]))
    if (results / "ladders.json").exists():
        kept = json.loads((results / "ladders.json").read_text())
        blocks["ladders"] = markdown(variant_rows([r for r in kept["rungs"] if "lesson" not in r]))
        for lesson in settings["lessons"]:
            rungs = [r for r in kept["rungs"] if r.get("lesson") == lesson["name"]]
            blocks["lesson-" + lesson["name"]] = markdown(lesson_rows(lesson, rungs))
            if (root / "kernels/lessons").exists():
                (root / f"kernels/lessons/{lesson['name']}.svg").write_text(bars.svg(lesson["picture"], rungs))
    written = set()
    for path in [root / "kernels/README.md", *sorted((root / "kernels/lessons").glob("*.md")), results / "README.md"]:
        if path.exists():
            written |= replace_marked(path, blocks)
    missing = sorted(set(blocks) - written)
    if missing:
        raise TableError(f"no file has a marker for {', '.join(missing)}")
    print(f"ladder: wrote {', '.join(sorted(written))}")
    return 0
