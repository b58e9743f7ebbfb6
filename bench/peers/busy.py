#!/usr/bin/env python3
"""plume on a busy machine: the same work on 1 and 2 threads beside 0, 2 and 4 busy loops.

    busy.py --build build/cpu [--build /elsewhere/build] [--rounds 3] [--seconds 2] [--loops 0 2 4] [--threads 1 2]

A busy loop is a process that never sleeps, on the cores that plume may use. Every round runs each build and number of
threads once, one after the other, beside one number of loops. Prints one table per build: medians over the rounds of
each process's mean and 95th percentile in milliseconds, and how much longer the second number of threads takes than
the first. On any machine that ratio should stay below 1.1; without loops it should be well below 1. (Means: a thread
that has its core to itself for a while and shares it with a loop the next takes one of two durations, and which of
them is the median is luck.)
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORKLOADS = ["mobilenet_v3_small:inference:224:1", "resnet18:training:32:64"]


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(build, workload, threads, seconds):
    model, mode, size, batch = workload.split(":")
    command = [str(build / "bin" / "time_model"), "--device", "cpu", "--model", model, "--mode", mode, "--size", size,
               "--batch", batch, "--seconds", str(seconds), "--threads", str(threads)]
    # A build that was copied elsewhere finds its own library.
    environment = dict(os.environ, LD_LIBRARY_PATH=str(build / "lib"))
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"{command[0]}: exit status {result.returncode}")
    line = json.loads(result.stdout.strip().splitlines()[-1])
    return line["mean_ms"], line["p95_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", action="append", help="build folder with bin/time_model; may be repeated")
    parser.add_argument("--workload", action="append", help="model:mode:size:batch; may be repeated")
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="per process")
    args = parser.parse_args()
    builds = [(ROOT / build).resolve() for build in args.build or ["build/cpu"]]
    for build in builds:
        if not (build / "bin" / "time_model").exists():
            print(f"busy: {build}/bin/time_model: not built (cmake --build {build} --target time_model)", file=sys.stderr)
            return 3
    samples = {}
    for workload in args.workload or WORKLOADS:
        for loops in args.loops:
            with busy_loops(loops):
                for _ in range(args.rounds):
                    for build in builds:
                        for threads in args.threads:
                            key = (build, workload, loops, threads)
                            samples.setdefault(key, []).append(measure(build, workload, threads, args.seconds))
    for build in builds:
        print(f"\n{build}\n\n| workload | busy loops | " + " | ".join(f"{t} threads: ms (p95)" for t in args.threads) +
              " | ratio |\n|---|---|" + "---|" * len(args.threads) + "---|")
        for workload in args.workload or WORKLOADS:
            for loops in args.loops:
                cells, means = [], []
                for threads in args.threads:
                    of_rounds = samples[build, workload, loops, threads]
                    means.append(statistics.median(m for m, _ in of_rounds))
                    cells.append(f"{means[-1]:.2f} ({statistics.median(p for _, p in of_rounds):.2f})")
                ratio = f"{means[1] / means[0]:.2f}" if len(means) > 1 else "-"
                print(f"| {workload} | {loops} | " + " | ".join(cells) + f" | {ratio} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
