#!/usr/bin/env python3
"""The five networks in plume and in PyTorch, turn by turn: one line of JSON per result.

Per network and workload plume's time_model runs, then PyTorch in each of its modes, in one process that stays
(bench/peers/torch_cuda.py --serve), so that both meet the same clocks. The workloads that one would miss most come
first. While time is left: a second turn, then torch.compile. Without PyTorch plume runs alone. What fails is a line
with "error". Exit status 1 when plume failed somewhere, or nothing ran.
"""
import argparse
import json
import pathlib
import queue
import subprocess
import sys
import threading
import time

MODELS = ["mobilenet_v3_small", "resnet18", "efficientnet_v2_s", "squeezenet1_1", "shufflenet_v2_x1_0"]
WORKLOADS = ["inference:224:256", "training:224:256", "inference:224:1", "training:32:64", "inference:224:32"]
failed = ran = 0


def cell(workload):
    mode, size, batch = workload.split(":")
    return mode, int(size), int(batch)


def plume(args, model, workload, turn):
    global failed, ran
    mode, size, batch = cell(workload)
    line = {"framework": "plume", "variant": "graph", "model": model, "mode": mode, "size": size, "batch": batch,
            "device": "cuda", "dtype": args.dtype}
    command = [args.time_model, "--device", "cuda", "--model", model, "--mode", mode, "--size", size, "--batch", batch,
               "--dtype", args.dtype, "--seconds", args.seconds]
    try:
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=args.patience)
        if result.returncode == 0:
            line = json.loads(result.stdout.strip().splitlines()[-1])
            ran += 1
        else:
            line["error"] = (result.stderr.strip() or "no message").splitlines()[-1][:300]
    except subprocess.TimeoutExpired:
        line["error"] = f"not done after {args.patience} s"
    except (ValueError, IndexError) as error:
        line["error"] = f"time_model's output: {error}"
    failed += "error" in line
    print(json.dumps({**line, "turn": turn}), flush=True)


class Torch:
    """The PyTorch process. A request that takes too long ends it, and the next begins another."""

    def __init__(self, args):
        self.args, self.process = args, None

    def start(self):
        script = pathlib.Path(__file__).resolve().parents[3] / "bench/peers/torch_cuda.py"
        command = [self.args.python, str(script), "--serve", "--seconds", str(self.args.seconds), "--dtype", self.args.dtype]
        if self.args.small:
            command += ["--device", "cpu"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def ask(self, model, workload, variants, turn, patience):
        mode, size, batch = cell(workload)
        try:
            if not self.process:
                self.start()
            self.process.stdin.write(json.dumps({"model": model, "workload": workload, "variants": variants}) + "\n")
            self.process.stdin.flush()
            deadline = time.time() + patience
            while True:
                text = self.lines.get(timeout=max(0.1, deadline - time.time()))
                if text is None:
                    raise RuntimeError("PyTorch's process has ended")
                line = json.loads(text)
                if "done" in line:
                    return
                print(json.dumps({**line, "turn": turn}), flush=True)
        except (OSError, ValueError, RuntimeError, queue.Empty) as error:
            what = f"not done after {patience:.0f} s" if isinstance(error, queue.Empty) else str(error)
            print(json.dumps({"framework": "pytorch", "version": "", "variant": "+".join(variants), "model": model,
                              "mode": mode, "size": size, "batch": batch, "dtype": self.args.dtype, "error": what,
                              "turn": turn}), flush=True)
            self.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-model", required=True, help="plume's program")
    parser.add_argument("--python", help="a Python with PyTorch; none: plume alone")
    parser.add_argument("--budget", type=float, default=180, help="seconds in all")
    parser.add_argument("--seconds", type=float, default=0.3, help="of timing per result")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--small", action="store_true", help="a rehearsal: one network, PyTorch on the cpu")
    args = parser.parse_args()
    models, workloads, args.patience = MODELS, WORKLOADS, 60
    if args.small:
        models, workloads, args.seconds, args.dtype = ["squeezenet1_1"], ["inference:32:2", "training:32:2"], 0.05, "f32"
    end = time.time() + args.budget - 5
    torch = Torch(args) if args.python else None
    if not torch:
        print("no PyTorch: plume alone", flush=True)
    for turn in (1, 2):
        for workload in workloads:
            for model in models:
                if time.time() < end:
                    plume(args, model, workload, turn)
                if torch and time.time() < end:
                    modes = ["graph", "graph-bf16", "eager"] if workload.startswith("inference") else ["graph", "eager"]
                    torch.ask(model, workload, modes[:2] if turn == 2 else modes, turn, min(args.patience, end - time.time()))
        if args.small:
            break
    for workload in workloads if torch and not args.small else []:
        for model in models:
            if end - time.time() > 30:  # it compiles for long, and what does not end is lost
                torch.ask(model, workload, ["compile"], 1, end - time.time())
    if torch:
        torch.stop()
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
