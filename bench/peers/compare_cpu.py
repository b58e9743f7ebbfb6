#!/usr/bin/env python3
"""plume against PyTorch, ONNX Runtime, OpenVINO, ncnn and LiteRT on this machine's CPU, interleaved.

    compare_cpu.py --build build/cpu [--rounds 5] [--seconds 3] [--workload inference:224:1 ...] [--model resnet18 ...]
        [--add] [--isa avx2]

Every round runs each contender once, one process at a time and one after the other, so that a noisy minute touches all
of them. A contender that took half as long again as its fastest rival in the first round is not run in the others, and
peers whose packages are missing are left out and named (make_environment.sh installs today's). Reported is the median
over rounds of each process's median, and the ratio of ours to the best peer: below 1 is faster. Writes
bench/results/<machine>/cpu.json and cpu.md.
--isa avx2: as if the processor had no AVX-512; with the peers alone that can be told so (PyTorch, OpenVINO).
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS_PYTHON = ROOT / "build" / "peers" / "bin" / "python"
USUAL = ["inference:224:1", "inference:224:16", "training:32:64", "training:224:16"]
MODELS = ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "efficientnet_v2_s", "shufflenet_v2_x1_0"]
PEERS = {"pytorch": "torch_cpu.py", "onnxruntime": "onnxruntime_cpu.py", "ncnn": "ncnn_cpu.py",
         "openvino": "openvino_cpu.py", "litert": "litert_cpu.py"}
# What keeps a contender from wider vectors, and who obeys.
ISAS = {"avx2": {"PLUME_CPU_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
OBEDIENT = ["pytorch", "openvino"]
HOPELESS = 1.5  # times the fastest rival


def machine_name(isa=None):
    """The CPU's name, its widest vectors that are used (virtual machines hide the model), the number of threads."""
    name, vectors = platform.processor() or platform.machine(), ""
    try:
        facts = dict(line.split(":", 1) for line in open("/proc/cpuinfo") if ":" in line)
        facts = {key.strip(): value.split() for key, value in facts.items()}
        name = " ".join(facts.get("model name", [name]))
        vectors = next((v for v in ("avx512f", "avx2") if v in facts.get("flags", [])), "")
    except OSError:
        pass
    name = re.sub(r"\((R|TM)\)|CPU|Processor|@.*", " ", name) + " " + (isa or vectors)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + f"-{os.cpu_count()}-threads"


def run(command, environment):
    """One line of JSON, or None and why."""
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        return None, lines[-1] if lines else f"exit status {result.returncode}"
    return json.loads(result.stdout.strip().splitlines()[-1]), None


def contenders_of(args, model, workload):
    """Name -> command, ours first."""
    mode, size, batch = workload.split(":")
    common = ["--model", model, "--mode", mode, "--size", size, "--batch", batch, "--seconds", str(args.seconds),
              "--threads", str(args.threads)]
    commands = {"plume": [str(ROOT / args.build / "bin" / "time_model"), "--device", "cpu"] + common}
    for peer in args.peer or (OBEDIENT if args.isa else PEERS):
        script = [args.python, str(HERE / PEERS[peer])]
        variants = subprocess.run(script + ["--mode", mode, "--list-variants"], capture_output=True, text=True,
                                  check=True).stdout.split()
        for variant in variants:
            commands[f"{peer} {variant}"] = script + ["--variant", variant] + common
    return commands


class Comparison:
    """One network at one workload."""

    def __init__(self, args, model, workload):
        self.args, self.model, self.workload = args, model, workload
        self.commands = contenders_of(args, model, workload)
        self.medians = {name: [] for name in self.commands}
        self.versions, self.left_out = {}, []

    def round(self):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.args.threads), **ISAS.get(self.args.isa, {}))
        shown = []
        for name in list(self.commands):
            line, error = run(self.commands[name], environment)
            if line is None:
                if name == "plume":
                    raise RuntimeError(error)
                self.leave_out(name, error)
                continue
            self.medians[name].append(line["median_ms"])
            shown.append(f"{name} {line['median_ms']:.2f}")
            if "version" in line:
                self.versions[line["framework"]] = line["version"]
        print(f"{self.model} {self.workload}: " + ", ".join(shown), file=sys.stderr)

    def drop_hopeless(self):
        rivals = {name: times[0] for name, times in self.medians.items() if name != "plume" and times}
        for name, time in rivals.items():
            if time > HOPELESS * min(rivals.values()):
                self.commands.pop(name, None)

    def leave_out(self, name, reason):
        self.left_out.append({"model": self.model, "workload": self.workload, "contender": name, "reason": reason})
        print(f"{self.model} {self.workload}: {name} left out: {reason}", file=sys.stderr)
        del self.commands[name]

    def row(self):
        times = {name: statistics.median(values) for name, values in self.medians.items() if values}
        ours = times.pop("plume")
        best = min(times, key=times.get, default=None)
        return {"model": self.model, "workload": self.workload, "plume_ms": ours, "best_peer": best,
                "best_peer_ms": times.get(best), "ratio": ours / times[best] if best else None, "peers_ms": times}


def markdown(report):
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [f"# {report['threads']} threads of a CPU: plume beside {versions}", "",
             f"Milliseconds per pass, f32; medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s. A",
             "ratio below 1 means that plume is faster than the best of them.", "",
             "| network | workload | plume | best peer | which | ratio |", "|---|---|---|---|---|---|"]
    for row in report["rows"]:
        peer = f"{row['best_peer_ms']:.2f} | {row['best_peer']} | {row['ratio']:.3f}" if row["best_peer"] else "- | - | -"
        lines.append(f"| {row['model']} | {row['workload']} | {row['plume_ms']:.2f} | {peer} |")
    if report["left_out"]:
        lines += ["", "Left out: " + "; ".join(sorted({f"{x['contender']} ({x['reason']})" for x in report["left_out"]}))]
    return "\n".join(lines) + "\n"


def report_to_add_to(args, out):
    fresh = {"machine": machine_name(args.isa), "threads": args.threads, "rounds": args.rounds,
             "seconds": args.seconds, "versions": {}, "rows": [], "left_out": []}
    if not args.add or not (out / "cpu.json").exists():
        return fresh
    found = json.loads((out / "cpu.json").read_text())
    for key in ("machine", "threads", "rounds", "seconds"):
        if found[key] != fresh[key]:
            sys.exit(f"compare_cpu: {out}/cpu.json: {key} {found[key]}, now {fresh[key]}: not to be added to")
    return found


def add(report, comparison):
    """In place of an earlier row of the same network and workload, in the usual order."""
    def same(row):
        return row["model"] == comparison.model and row["workload"] == comparison.workload
    for part in ("rows", "left_out"):
        report[part] = [row for row in report[part] if not same(row)]
    report["rows"].append(comparison.row())
    order = {model: i for i, model in enumerate(MODELS)}

    def place(row):
        mode, size, batch = row["workload"].split(":")
        return order.get(row["model"], len(order)), mode, -int(size), int(batch)

    report["rows"].sort(key=place)
    report["versions"].update(comparison.versions)
    report["left_out"] += comparison.left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/cpu", help="build folder with bin/time_model")
    parser.add_argument("--python", default=str(PEERS_PYTHON if PEERS_PYTHON.exists() else sys.executable),
                        help="the Python that has the peers (default: make_environment.sh's in build/peers, else this one)")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all of them; may be repeated")
    parser.add_argument("--model", action="append", help="network; may be repeated (default: the five)")
    parser.add_argument("--workload", action="append", help="mode:size:batch; may be repeated")
    parser.add_argument("--isa", choices=list(ISAS), help="the widest vectors that are used")
    parser.add_argument("--add", action="store_true", help="keep the other rows of an earlier report")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per contender and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="folder (default: bench/results/<machine>)")
    args = parser.parse_args()
    if args.isa and set(args.peer or []) - set(OBEDIENT):
        parser.error(f"--isa: of the peers only {' and '.join(OBEDIENT)} can be told")

    if not (ROOT / args.build / "bin" / "time_model").exists():
        print(f"compare_cpu: {args.build}/bin/time_model: not built (cmake --build {args.build} --target time_model)",
              file=sys.stderr)
        return 3
    out = pathlib.Path(args.out) if args.out else ROOT / "bench" / "results" / machine_name(args.isa)
    report = report_to_add_to(args, out)
    for model in args.model or MODELS:
        for workload in args.workload or USUAL:
            comparison = Comparison(args, model, workload)
            try:
                for i in range(args.rounds):
                    comparison.round()
                    if i == 0:
                        comparison.drop_hopeless()
            except RuntimeError as error:
                print(f"compare_cpu: {model} {workload}: {error}", file=sys.stderr)
                return 5
            add(report, comparison)
            out.mkdir(parents=True, exist_ok=True)
            (out / "cpu.json").write_text(json.dumps(report, indent=1) + "\n")
            (out / "cpu.md").write_text(markdown(report))
    print(markdown(report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
