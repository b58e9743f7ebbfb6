#!/usr/bin/env python3
"""Turns the logs of tools/gpu_check.sh into gpu_check.json and gpu_check.md. Needs nothing but Python."""
import argparse
import datetime
import json
import pathlib
import re
import sys


def read_json(path):
    """Google Benchmark's file; a run that was stopped leaves one that ends in the middle."""
    try:
        text = path.read_text()
    except OSError:
        return None
    for tail in ("", "]}", "\n]}"):
        try:
            return json.loads(text.rstrip().rstrip(",") + tail)
        except ValueError:
            continue
    return None


def json_lines(path):
    lines = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    pass
    return lines


def milliseconds(entry):
    return entry["real_time"] * {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}[entry["time_unit"]]


def shard_results(logs, name):
    """What the shards of ops_test said so far: a log grows test by test, and one that was cut counts, too."""
    passed, failed, errors, shards = 0, [], [], 0
    for path in sorted(logs.glob(f"{name}.[0-9]*.log")):
        shards += 1
        text = path.read_text(errors="replace")
        passed += len(re.findall(r"^\[       OK \]", text, re.M))
        failed += [f for f in re.findall(r"^\[  FAILED  \] (\S+?)(?: \(\d+ ms\))?$", text, re.M) if f not in failed]
        errors += re.findall(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$", text, re.M)
    if not shards:
        return None
    return {"shards": shards, "passed": passed, "failed": failed, "summaries": errors}


def network_rows(lines):
    """One row per network, workload and framework's mode: the best median of its turns, or why there is none."""
    rows = {}
    for r in lines:
        if "model" not in r or "mode" not in r:
            continue
        name = "plume" if r["framework"] == "plume" else f"PyTorch {r.get('version', '')}".strip()
        key = (r["model"], f"{r['mode']}:{r['size']}:{r['batch']}", r["dtype"], f"{name} {r['variant']}")
        row = rows.setdefault(key, {"medians": [], "batch": r["batch"]})
        if "error" in r:
            row["error"] = r["error"]
        else:
            row["medians"].append(r["median_ms"])
    return rows


def network_table(rows):
    cells = []
    for (model, workload, dtype, what), row in rows.items():
        if row["medians"]:
            ms = min(row["medians"])
            best = min((min(r["medians"]) for (m, w, d, k), r in rows.items()
                        if (m, w, d) == (model, workload, dtype) and k.startswith("PyTorch") and r["medians"]), default=None)
            ratio = f"{best / ms:.2f}" if best and what.startswith("plume") else ""
            note = f" (also failed: {row['error']})" if "error" in row else ""
            cells.append([model, workload, dtype, what, f"{ms:.3f}{note}", f"{row['batch'] / ms:.2f}", ratio])
        else:
            cells.append([model, workload, dtype, what, f"FAILED: {row['error']}", "", ""])
    cells.sort(key=lambda c: (c[0], c[1], c[2], c[3] if c[3].startswith("PyTorch") else ""))
    return table(["network", "workload", "dtype", "what", "ms", "k images/s", "PyTorch's best / plume"], cells)


def counter_table(lines):
    rows = []
    for r in lines:
        if "error" in r:
            rows.append([r["pass"], "FAILED: " + r["error"], "", "", "", "", ""])
            continue
        row = [r["pass"], r["kernel"], "x".join(map(str, r["grid"]))]
        for what in ("sectors", "wavefronts", "conflicts", "instructions"):
            predicted, counted = r[what]["predicted"], r[what]["counted"]
            ratio = f" ({predicted / counted:.2f})" if counted else ""
            row.append(f"{predicted:.0f} / {counted:.0f}{ratio}")
        rows.append(row)
    return table(["pass", "kernel", "grid", "sectors", "wavefronts", "conflicts", "instructions"], rows)


def op_results(report):
    results = []
    for entry in (report or {}).get("benchmarks", []):
        slot, variant, arguments = entry["name"].split("/", 2)
        row = {"slot": slot, "variant": variant, "arguments": arguments.removesuffix("/real_time")}
        if entry.get("error_occurred"):
            row["error"] = entry.get("error_message", "")
        else:
            row["us"] = milliseconds(entry) * 1e3
            for key in ("GB/s", "GFLOP/s", "%limit"):
                if key in entry:
                    row[key] = entry[key]
        results.append(row)
    return results


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] + \
           ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def slots_table(ops):
    """Per slot and variant: the sum over the shapes that every variant of the slot ran, and the mean share of the limit."""
    rows = []
    for slot in dict.fromkeys(r["slot"] for r in ops):
        mine = [r for r in ops if r["slot"] == slot and "us" in r]
        variants = list(dict.fromkeys(r["variant"] for r in mine))
        shared = set.intersection(*[{r["arguments"] for r in mine if r["variant"] == v} for v in variants]) \
            if variants else set()
        for variant in variants:
            timed = [r for r in mine if r["variant"] == variant and r["arguments"] in shared]
            limits = [r["%limit"] for r in timed if "%limit" in r]
            share = f"{sum(limits) / len(limits):.0f} %" if limits else ""
            rows.append([slot, variant, len(timed), f"{sum(r['us'] for r in timed):.0f}", share])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--gpu", default="")
    parser.add_argument("--driver", default="")
    parser.add_argument("--commit", default="")
    parser.add_argument("--bundle", type=pathlib.Path, help="bundle.json of what ran, where it was not built there")
    args = parser.parse_args()

    phases = []
    for line in (args.logs / "phases.tsv").read_text().splitlines():
        name, status, seconds = line.split("\t")
        phase = {"name": name, "status": status, "seconds": int(seconds)}
        log = args.logs / f"{name}.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        shards = shard_results(args.logs, name)
        if shards:
            phase["tests"] = shards
            phase["detail"] = f"{shards['passed']} tests passed, {len(shards['failed'])} failed, in {shards['shards']} shards"
        if status == "skipped":
            phase["detail"] = (text.strip().splitlines() or ["no reason given"])[-1][:200]
        elif status != "ok":
            phase["log_end"] = text.splitlines()[-40:]
        phases.append(phase)

    smoke, networks = json_lines(args.logs / "smoke.log"), json_lines(args.logs / "networks.log")
    counters = json_lines(args.logs / "counters.log")
    ops_reports = [r for r in map(read_json, sorted(args.logs.glob("bench_ops.*.json"))) if r]
    ops = [row for r in ops_reports for row in op_results(r)]
    bundle = read_json(args.bundle) if args.bundle else None
    report = {"gpu": args.gpu, "driver": args.driver, "commit": args.commit, "bundle": bundle,
              "date": datetime.date.today().isoformat(), "phases": phases,
              "machine": (ops_reports[0] if ops_reports else {}).get("context", {}),
              "smoke": smoke, "networks": networks, "counters": counters, "operations": ops}

    lines = [f"# {args.gpu}", "", f"Driver {args.driver or 'none'}, commit {args.commit}, {report['date']}.", ""]
    if bundle:
        lines += [f"Ran from a bundle of {bundle['date']}: commit {bundle['commit']}, architectures "
                  f"{bundle['architectures']}.", ""]
    if args.gpu == "rehearsal":
        lines += ["**A rehearsal on a stand-in for a GPU: no time here says anything, and what was predicted is also "
                  "what was \"counted\".**", ""]
    lines += ["## Phases", ""]
    lines += table(["phase", "result", "s"],
                   [[p["name"], p["status"] + (f"; {p['detail']}" if "detail" in p else ""), p["seconds"]] for p in phases])
    for p in phases:
        if p.get("log_end"):
            lines += ["", f"The end of {p['name']}:", "", *["    " + line[:200] for line in p["log_end"][-8:]]]
        for failure in p.get("tests", {}).get("failed", [])[:20]:
            lines += ["", f"- {p['name']}: {failure} failed"]
    if smoke:
        lines += ["", "## Smoke test", ""]
        lines += table(["check", "result", "detail", "s"],
                       [[s["check"], "ok" if s["ok"] else "FAILED", s["detail"], s["seconds"]] for s in smoke])
    if networks:
        lines += ["", "## Networks", "", "Milliseconds per pass: medians, of several turns the best; thousand images/s.", ""]
        lines += network_table(network_rows(networks))
    if counters:
        lines += ["", "## Counters", "", "Of a launch: predicted by the emulator / counted by ncu (ratio). Instructions of the",
                  "emulator are an estimate.", ""]
        lines += counter_table(counters)
    if ops:
        lines += ["", "## Operations", "", "Sum of microseconds over the shapes that all variants of the slot take; the",
                  "limit is the larger of bytes over copy bandwidth and FLOPs over the peak of a large matrix product.", ""]
        lines += table(["slot", "variant", "shapes", "us", "of the limit"], slots_table(ops))
        errors = [r for r in ops if "error" in r]
        if errors:
            lines += ["", "Failed:", ""] + [f"- {r['slot']}/{r['variant']}: {r['error']}" for r in errors]
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in (("gpu_check.json", json.dumps(report, indent=1) + "\n"), ("gpu_check.md", "\n".join(lines) + "\n")):
        (args.out / f".{name}").write_text(text)
        (args.out / f".{name}").replace(args.out / name)  # whole, whenever somebody ends this
    print(f"wrote {args.out / 'gpu_check.json'} and {args.out / 'gpu_check.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
