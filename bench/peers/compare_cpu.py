#!/usr/bin/env python3
"""plume against PyTorch on this machine's CPU, interleaved.

    compare_cpu.py --build build/cpu [--rounds 5] [--seconds 3] [--workload inference:224:1 ...] [--model resnet18 ...]

Every round runs each contender once, one process at a time and one after the other, so that a noisy minute touches all
of them. Reported is the median over rounds of each process's median, and the ratio of ours to PyTorch's best mode: below
1 is faster. Writes bench/results/<machine>/cpu.json and cpu.md.
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
USUAL = ["inference:224:1", "inference:224:16", "training:32:64"]


def machine_name():
    name = platform.processor() or platform.machine()
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                name = line.split(":", 1)[1]
                break
    except OSError:
        pass
    name = re.sub(r"\((R|TM)\)|CPU|Processor|@.*", " ", name)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + f"-{os.cpu_count()}-threads"


def run(command, environment):
    """One line of JSON, or None and why."""
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        return None, lines[-1] if lines else f"exit status {result.returncode}"
    return json.loads(result.stdout.strip().splitlines()[-1]), None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/cpu", help="build folder with bin/time_model")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--model", action="append", help="network; may be repeated (default: resnet18)")
    parser.add_argument("--workload", action="append", help="mode:size:batch; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="per contender and round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=None, help="folder (default: bench/results/<machine>)")
    args = parser.parse_args()

    time_model = ROOT / args.build / "bin" / "time_model"
    if not time_model.exists():
        print(f"compare_cpu: {time_model}: not built (cmake --build {args.build} --target time_model)", file=sys.stderr)
        return 3
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    rows, dropped = [], []
    for model in args.model or ["resnet18"]:
        for workload in args.workload or USUAL:
            mode, size, batch = workload.split(":")
            common = ["--model", model, "--mode", mode, "--size", size, "--batch", batch, "--seconds", str(args.seconds)]
            peer = [args.python, str(HERE / "torch_cpu.py")]
            variants = subprocess.run(peer + ["--mode", mode, "--list-variants"], capture_output=True, text=True,
                                      check=True).stdout.split()
            contenders = {"plume": [str(time_model), "--device", "cpu", "--threads", str(args.threads)] + common}
            for variant in variants:
                contenders[f"pytorch {variant}"] = peer + ["--variant", variant, "--threads", str(args.threads)] + common
            medians = {name: [] for name in contenders}
            version = ""
            for round_number in range(args.rounds):
                for name in list(contenders):
                    line, error = run(contenders[name], environment)
                    if line is None:
                        if name == "plume":
                            print(f"compare_cpu: {error}", file=sys.stderr)
                            return 5
                        dropped.append({"model": model, "workload": workload, "contender": name, "reason": error})
                        print(f"{model} {workload}: {name} left out: {error}", file=sys.stderr)
                        del contenders[name], medians[name]
                        continue
                    medians[name].append(line["median_ms"])
                    version = line.get("version", version)
                print(f"{model} {workload} round {round_number + 1}/{args.rounds}: " +
                      ", ".join(f"{n} {m[-1]:.2f}" for n, m in medians.items()), file=sys.stderr)
            ours = statistics.median(medians.pop("plume"))
            peers = {name: statistics.median(values) for name, values in medians.items() if values}
            if not peers:
                print(f"compare_cpu: {workload}: no mode of PyTorch ran", file=sys.stderr)
                return 4
            best = min(peers, key=peers.get)
            rows.append({"model": model, "workload": workload, "plume_ms": ours, "best_peer": best,
                         "best_peer_ms": peers[best], "ratio": ours / peers[best], "peers_ms": peers})

    report = {"machine": machine_name(), "threads": args.threads, "rounds": args.rounds, "pytorch": version,
              "seconds": args.seconds, "rows": rows, "left_out": dropped}
    table = [f"# CPU, {args.threads} threads: plume against PyTorch {version}", "",
             f"Milliseconds per pass, f32; median of {args.rounds} interleaved rounds of {args.seconds:g} s. A ratio below",
             "1 means that plume is faster than PyTorch's best mode.", "",
             "| network | workload | plume | PyTorch's best | its mode | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        table.append(f"| {row['model']} | {row['workload']} | {row['plume_ms']:.2f} | {row['best_peer_ms']:.2f} | "
                     f"{row['best_peer'].split(' ', 1)[1]} | {row['ratio']:.3f} |")
    out = pathlib.Path(args.out) if args.out else ROOT / "bench" / "results" / report["machine"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "cpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "cpu.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
