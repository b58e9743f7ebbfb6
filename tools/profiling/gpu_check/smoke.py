#!/usr/bin/env python3
"""The first thing to know about a GPU: does it compute what it should? One line of JSON per check.

Recorded training gives eager training's losses; a checkpoint evaluates alike on cuda and cpu; stored networks give
stored logits, in f32, bf16 and f16. Exit status 1 when a check fails. Wants Python alone.
"""
import argparse
import array
import concurrent.futures
import json
import math
import pathlib
import struct
import subprocess
import sys
import threading
import time

failures = 0
printing = threading.Lock()


def say(check, ok, detail, started):
    global failures
    with printing:
        failures += not ok
        print(json.dumps({"check": check, "ok": bool(ok), "detail": detail, "seconds": round(time.time() - started, 2)}),
              flush=True)


def tensor(path, name):
    """The values of an f32 tensor of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + length])[name]
    assert entry["dtype"] == "F32", entry
    values = array.array("f")
    values.frombytes(data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
    return values


def deviation(found, expected):
    """The largest difference, over the largest magnitude; infinite where shapes differ or something is not finite."""
    if len(found) != len(expected) or not all(map(math.isfinite, found)):
        return math.inf
    return max(abs(a - b) for a, b in zip(found, expected)) / max(map(abs, expected))


class Programs:
    def __init__(self, folder):
        self.folder = folder

    def run(self, program, *words):
        result = subprocess.run([self.folder / program, *map(str, words)], capture_output=True, text=True, errors="replace")
        if result.returncode != 0:
            last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise RuntimeError(f"{program} ended with {result.returncode}: {last[:300]}")
        return result.stdout


def losses(run):
    return [json.loads(line)["train_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()
            if "train_loss" in line]


def recorded_is_eager(programs, work, model, precision, quick):
    started, check = time.time(), f"{model} {precision}: recorded = eager"
    images, batch = (48, 8) if quick else (640, 64)
    words = ["--device", "cuda", "--model", model, "--precision", precision, "--epochs", 2, "--batch", batch,
             "--limit-train", images, "--limit-test", 16, "--validation", 0, "--lr", 0.005, "--deterministic", "--quiet"]
    runs = {}
    for way in ("--graph", "--no-graph"):
        folder = work / f"{model}-{precision}{way}"
        programs.run("train", *words, way, "--overwrite", "--out", folder)
        runs[way] = losses(folder)
    # Deterministic kernels, the same ones: what is left is the order of sums where a capture chose another kernel.
    allowed = 1e-4 if precision == "f32" else 2e-2
    found = deviation(runs["--graph"], runs["--no-graph"])
    say(check, len(runs["--graph"]) == 2 and found <= allowed,
        f"losses {runs['--graph']} and {runs['--no-graph']}, apart by {found:.2g} of {allowed:g}", started)
    return work / f"{model}-{precision}--graph"


def cuda_is_cpu(programs, work, run):
    started, seen = time.time(), {}
    for device in ("cuda", "cpu"):
        programs.run("evaluate", "--device", device, "--checkpoint", run / "last.safetensors", "--precision", "f32",
                     "--limit", 48, "--latency-seconds", 0, "--json", work / f"{device}.json", "--logits", work / f"{device}.st")
        seen[device] = json.loads((work / f"{device}.json").read_text())
    found = deviation(tensor(work / "cuda.st", "logits"), tensor(work / "cpu.st", "logits"))
    say(f"{run.name}: evaluate on cuda = cpu", found <= 1e-3 and seen["cuda"]["images"] == seen["cpu"]["images"],
        f"top-1 {seen['cuda']['top1']} and {seen['cpu']['top1']}, logits apart by {found:.2g} of 0.001", started)


def stored_logits(programs, work, weights, precision):
    started = time.time()
    logits = work / f"{weights.name}-{precision}.st"  # checks run side by side
    expected = tensor(str(weights).replace(".weights.", ".logits-f32."), "logits")
    rounded = tensor(str(weights).replace(".weights.", f".logits-{precision}."), "logits")
    programs.run("evaluate", "--device", "cuda", "--checkpoint", weights, "--precision", precision, "--limit", 32,
                 "--latency-seconds", 0, "--logits", logits)
    # Half precision moves the logits of some networks far: a few times as far as it does on the cpu is no mistake.
    allowed = max(1e-3, 3 * deviation(rounded, expected))
    found = deviation(tensor(logits, "logits"), expected)
    say(f"{weights.name.split('.')[0]} {precision}: stored logits", found <= allowed,
        f"apart by {found:.2g} of {allowed:.2g}", started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--fixtures", required=True, type=pathlib.Path)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2, help="processors")
    parser.add_argument("--small", action="store_true", help="one network, a few images")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    programs = Programs(args.bin)

    def guarded(check, action, *rest):
        started = time.time()
        try:
            return action(programs, args.work, *rest)
        except Exception as error:  # the other checks are wanted all the same
            say(check, False, f"{type(error).__name__}: {error}"[:400], started)

    def train_and_evaluate(model, precision, evaluate):
        run = guarded(f"{model} {precision}: recorded = eager", recorded_is_eager, model, precision, args.small)
        if run and evaluate:
            guarded(f"{run.name}: evaluate on cuda = cpu", cuda_is_cpu, run)

    def stored(weights, precision):
        guarded(f"{weights.name} {precision}: stored logits", stored_logits, weights, precision)

    cases = [("resnet18", "f32"), ("mobilenet_v3_small", "bf16"), ("efficientnet_v2_s", "bf16"), ("shufflenet_v2_x1_0", "f16"),
             ("squeezenet1_1", "f32"), ("resnet18", "bf16")]
    weights, precisions = sorted(args.fixtures.glob("*.weights.safetensors")), ["f32", "bf16", "f16"]
    if args.small:
        cases, weights, precisions = [("shufflenet_v2_x0_5", "f32")], weights[-1:], ["f32"]
    if not weights:  # a build in place of a bundle
        say("stored logits", True, "left out: there is no bundle", time.time())
    # Most of the time goes into starting and planning, on the host: all at once, one GPU is enough for them.
    with concurrent.futures.ThreadPoolExecutor(max(1, min(8, args.jobs // 2))) as pool:
        for i, (model, precision) in enumerate(cases):
            pool.submit(train_and_evaluate, model, precision, i == 0)
        for precision in precisions:
            for path in weights:
                pool.submit(stored, path, precision)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
