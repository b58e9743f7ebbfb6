#!/usr/bin/env python3
"""What the emulator counted beforehand against what ncu counts: sectors, bank conflicts, instructions of own kernels.

The predictions (profile --gpu h100 --json, from a build with counters) name kernels with their grids. The same passes run
here call by call under ncu, and per kernel and grid the counts of a launch are set side by side: one line of JSON each,
the ten with most sectors. Instructions of the emulator are an estimate. Exit status 1 when nothing could be compared.
"""
import argparse
import csv
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys

METRICS = {
    "sectors": ["l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum", "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum"],
    "wavefronts": ["l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"],
    "conflicts": ["l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"],
    "instructions": ["smsp__inst_executed.sum"],
}
KERNELS = 10


def short(name):
    """As tools/profiling/kernel_report.cpp shortens, without parameters."""
    name = re.sub(r"^(void|static void) ", "", name.strip())
    name = re.sub(r"\{anonymous\}::|\(anonymous namespace\)::|<unnamed>::", "", name)
    name = re.sub(r"\b(plume|simt_kernels|cuda_kernels)::", "", name)
    name = re.sub(r"\((int|unsigned int|bool)\)", "", name)
    name = re.sub(r"\btrue\b", "1", re.sub(r"\bfalse\b", "0", name))
    return re.sub(r"\s+", "", re.sub(r"\(.*$", "", name.replace("> >", ">>")))


def predictions(path):
    """{(kernel, grid, block): counts of a launch}"""
    found = {}
    for k in json.loads(path.read_text()).get("kernels", []):
        counts = {"sectors": k["sectors"], "wavefronts": k["wavefronts"],
                  "conflicts": k["wavefronts"] - k["ideal_wavefronts"], "instructions": k["instructions"]}
        key = short(k["kernel"]), tuple(k["grid"]), tuple(k["block"])
        found[key] = {what: value / k["launches"] for what, value in counts.items()}
    return found


def triple(text):
    return tuple(int(number) for number in re.findall(r"\d+", text))


def counted(text):
    """The same, means over launches, from ncu's --csv --page raw: a header, a line of units, a line per launch."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise RuntimeError("ncu wrote no table: " + (lines[-1][:300] if lines else "nothing at all"))
    sums = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if not row["ID"]:  # the units
            continue
        key = short(row["Kernel Name"]), triple(row["Grid Size"]), triple(row["Block Size"])
        one = sums.setdefault(key, {"launches": 0, **{what: 0.0 for what in METRICS}})
        one["launches"] += 1
        for what, names in METRICS.items():
            one[what] += sum(float(row[name].replace(",", "")) for name in names)
    return {key: {what: s[what] / s["launches"] for what in METRICS} for key, s in sums.items()}


def pretended(path):
    """A table as ncu writes it, with the predictions as its counts."""
    out = io.StringIO()
    names = [name for group in METRICS.values() for name in group]
    table = csv.writer(out, quoting=csv.QUOTE_ALL)
    table.writerow(["ID", "Kernel Name", "Block Size", "Grid Size", *names])
    table.writerow(["", "", "", "", *["" for _ in names]])
    for i, ((kernel, grid, block), counts) in enumerate(predictions(path).items()):
        values = {METRICS[what][0]: f"{value:,.3f}" for what, value in counts.items()}
        table.writerow([i, f"void plume::cuda_kernels::(anonymous namespace)::{kernel}(plume::X)", str(block), str(grid),
                        *[values.get(name, "0") for name in names]])
    return "==PROF== Connected to process 1\n" + out.getvalue()


def own_variants(about):
    """--variant flags, so that the variants run which were counted and not a vendor's library. A slot that several
    variants served cannot be forced to one of them."""
    served = {}
    for row in about["rows"]:
        served.setdefault(row["slot"], set()).add(row["variant"])
    return [word for slot, variants in served.items() if len(variants) == 1 for word in ("--variant", f"{slot}={min(variants)}")]


def ncu_table(ncu, args, about, work):
    log = work / f"ncu-{about['model']}-{about['mode']}.csv"
    metrics = ",".join(name for group in METRICS.values() for name in group)
    command = [ncu, "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none", "--target-processes",
               "all", "--kernel-name-base", "demangled", "--kernel-name", "regex:cuda_kernels", "--metrics", metrics,
               "--launch-count", "400", "--log-file", log, args.time_model, "--device", "cuda", "--graph", "off",
               "--model", about["model"], "--mode", about["mode"], "--dtype", about["dtype"], "--size", about["size"],
               "--batch", about["batch"], "--seconds", "0.01", *own_variants(about)]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    text = log.read_text(errors="replace") if log.exists() else ""
    if result.returncode != 0 and '"ID"' not in text:
        raise RuntimeError((result.stderr.strip() or text.strip() or result.stdout.strip() or "no message").splitlines()[-1][:300])
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", required=True, type=pathlib.Path)
    parser.add_argument("--time-model", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--pretend", action="store_true", help="no ncu: read back what was predicted, a rehearsal")
    args = parser.parse_args()
    files = sorted(args.predictions.glob("*.json"))
    ncu = shutil.which("ncu") or shutil.which("/usr/local/cuda/bin/ncu")
    if not files:
        print("the bundle has no predictions")
        return 77
    if not ncu and not args.pretend:
        print("no ncu here")
        return 77
    compared = 0
    for path in files:
        about = json.loads(path.read_text())
        try:
            expected = predictions(path)
            found = counted(pretended(path) if args.pretend else ncu_table(ncu, args, about, args.work))
        except Exception as error:  # the other passes are wanted all the same
            print(json.dumps({"pass": path.stem, "error": f"{type(error).__name__}: {error}"}), flush=True)
            continue
        both = sorted((key for key in expected if key in found), key=lambda key: -found[key]["sectors"])
        print(f"{path.stem}: {len(expected)} kernels and grids predicted, {len(found)} counted, {len(both)} are the same")
        for key in both[:KERNELS]:
            compared += 1
            print(json.dumps({"pass": path.stem, "kernel": key[0], "grid": key[1], "block": key[2],
                              **{what: {"predicted": expected[key][what], "counted": found[key][what]} for what in METRICS}}),
                  flush=True)
    return 0 if compared else 1


if __name__ == "__main__":
    sys.exit(main())
