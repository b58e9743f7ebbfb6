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


def model_results(report):
    """[{model, workload, dtype, variant, ms, images_per_second}]"""
    results = []
    for entry in (report or {}).get("benchmarks", []):
        if entry.get("error_occurred"):
            continue
        parts = [p for p in entry["name"].split("/") if p != "real_time"]
        batch = int(parts[1].split(":")[2])
        ms = milliseconds(entry)
        results.append({"model": parts[0], "workload": parts[1], "dtype": parts[2],
                        "variant": "graph" if "graph" in parts[3:] else "eager", "ms": ms,
                        "images_per_second": batch / ms * 1e3})
    return results


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
    args = parser.parse_args()

    phases = []
    for line in (args.logs / "phases.tsv").read_text().splitlines():
        name, status, seconds = line.split("\t")
        phase = {"name": name, "status": status, "seconds": int(seconds)}
        log = args.logs / f"{name}.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        tests = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", text)
        if tests:
            phase["detail"] = f"{int(tests[3]) - int(tests[2])} of {tests[3]} tests passed"
        if status not in ("ok", "skipped"):
            phase["log_end"] = text.splitlines()[-40:]
        phases.append(phase)

    models_report, ops_report = read_json(args.logs / "bench_models.json"), read_json(args.logs / "bench_ops.json")
    models, ops = model_results(models_report), op_results(ops_report)
    peers = json_lines(args.logs / "torch.log") + json_lines(args.logs / "torch_compile.log")
    report = {"gpu": args.gpu, "driver": args.driver, "commit": args.commit,
              "date": datetime.date.today().isoformat(), "phases": phases,
              "machine": (ops_report or models_report or {}).get("context", {}),
              "models": models, "pytorch": peers, "operations": ops}

    lines = [f"# {args.gpu}", "", f"Driver {args.driver or 'none'}, commit {args.commit}, {report['date']}.", "",
             "## Phases", ""]
    lines += table(["phase", "result", "s"],
                   [[p["name"], p["status"] + (f"; {p['detail']}" if "detail" in p else ""), p["seconds"]] for p in phases])
    if models or peers:
        lines += ["", "## Networks", "", "Milliseconds per pass, median of PyTorch and mean of plume; thousand images/s."]
        rows = []
        for m in models:
            rows.append([m["model"], m["workload"], m["dtype"], f"plume {m['variant']}", f"{m['ms']:.3f}",
                         f"{m['images_per_second'] / 1e3:.2f}"])
        for p in peers:
            workload = f"{p['mode']}:{p['size']}:{p['batch']}"
            ms = p.get("median_ms")
            rows.append([p["model"], workload, p["dtype"], f"PyTorch {p['version']} {p['variant']}",
                         f"{ms:.3f}" if ms else p.get("error", "no result"), f"{p['batch'] / ms:.2f}" if ms else ""])
        rows.sort(key=lambda row: (row[0], row[1], row[2]))
        lines += [""] + table(["network", "workload", "dtype", "what", "ms", "k images/s"], rows)
    if ops:
        lines += ["", "## Operations", "", "Sum of microseconds over the shapes that all variants of the slot take; the",
                  "limit is the larger of bytes over copy bandwidth and FLOPs over the peak of a large matrix product.", ""]
        lines += table(["slot", "variant", "shapes", "us", "of the limit"], slots_table(ops))
        errors = [r for r in ops if "error" in r]
        if errors:
            lines += ["", "Failed:", ""] + [f"- {r['slot']}/{r['variant']}: {r['error']}" for r in errors]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.out / "gpu_check.md").write_text("\n".join(lines) + "\n")
    print(f"wrote {args.out / 'gpu_check.json'} and {args.out / 'gpu_check.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
