#!/usr/bin/env python3
"""Runs `profile --gpu` over the networks and over the variants of kernel slots, and writes what it predicts into tables.

Called by tools/ladder.sh, which says how. rungs.json lists the calls that ladders and lessons show, estimates.json what was
estimated by hand. Whatever is predicted is kept in bench/results/predictions-GPU/*.json; tables.py makes the Markdown from
those alone.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time

import tables

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODELS = ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "efficientnet_v2_s", "shufflenet_v2_x1_0"]


class Failure(Exception):
    """One line, and the exit status."""


def fail(text, code=2):
    raise Failure(text, code)


class Runner:
    """Calls `profile`, several at once; extra flags come from PROFILE_FLAGS."""

    def __init__(self, program, gpu, jobs, flags, limit):
        self.program, self.gpu, self.jobs, self.flags, self.limit = program, gpu, jobs, flags, limit

    def profile(self, arguments):
        """(the report, seconds, None) or (None, seconds, the error's one line)."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            start = time.monotonic()
            command = [str(self.program), "--gpu", self.gpu, *arguments, *self.flags, "--json", str(path)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=self.limit)
            except subprocess.TimeoutExpired:
                return None, self.limit, f"takes more than {self.limit:.0f} s to count"
            seconds = time.monotonic() - start
            if done.returncode != 0:
                return None, seconds, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return json.loads(path.read_text()), seconds, None

    def all(self, tasks, work):
        """work(task) for all of them, in their order; says on stderr how far it is. The first error ends all."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(work, task) for task in tasks]
            try:
                for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
                    print(f"ladder: {number} of {len(tasks)}: {future.result()[0]}", file=sys.stderr, flush=True)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result()[1] for future in futures]


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def shapes_of(row, batch):
    """What is read and what is written, without the batch: [[56, 56, 64], [64, 3, 3, 64]], [[56, 56, 64]]."""
    def without(shape):
        a_filter = len(shape) == 4 and shape[1] == shape[2] <= 5  # whose number may be the batch's
        return shape[1:] if len(shape) > 1 and shape[0] == batch and not a_filter else shape
    read = [without(o["shape"]) for o in row["operands"] if not o["written"]]
    written = [without(o["shape"]) for o in row["operands"] if o["written"]]
    return read[:4], written[:2]


SUMMED = ["launches", "predicted_seconds", "predicted_seconds_low", "predicted_seconds_high", "sectors", "ideal_sectors",
          "wavefronts", "ideal_wavefronts"]
KEPT = ["slot", "variant", "class", "percent_of_limit", "bound", "second_bound", "occupancy", "macs", "bytes"]


def totals(report):
    return {"seconds": rounded(report["step_seconds"]), "low": rounded(report["prediction"]["step_seconds_low"]),
            "high": rounded(report["prediction"]["step_seconds_high"]), "launches": report["launches"]}


def digest(report, seconds, smaller):
    """A network's report with equal calls joined: so many `calls`, each as the first; counts of one call.
    `smaller`: reports of smaller batches, of which the totals are kept."""
    calls = {}
    for row in report["rows"]:
        read, written = shapes_of(row, report["batch"])
        key = json.dumps([row["slot"], row["variant"], row["class"], read, written, f"{row['predicted_seconds']:.2e}"])
        one = calls.setdefault(key, {"calls": 0, **{k: row[k] for k in KEPT + SUMMED}, "read": read, "written": written})
        one["calls"] += 1
    least = sum(row["predicted_seconds"] * (row["percent_of_limit"] or 0) / 100 for row in report["rows"])
    return {"model": report["model"], "mode": report["mode"], "size": report["size"], "batch": report["batch"],
            "dtype": report["dtype"], **totals(report), "share_of_limit": rounded(least / report["step_seconds"]),
            "bytes": sum(row["bytes"] for row in report["rows"]), "counted_in_seconds": round(seconds, 1),
            "smaller_batches": {str(one["batch"]): totals(one) for one in smaller},
            "columns": ["calls", *KEPT, *SUMMED, "read", "written"],
            "calls": [[rounded(v) for v in one.values()] for one in
                      sorted(calls.values(), key=lambda c: -c["calls"] * c["predicted_seconds"])]}


def networks(runner, models, size, batches):
    """A pass of each network with every batch, both ways; the longest first."""
    tasks = [(m, mode) for mode in ("training", "inference") for m in sorted(models, key=lambda m: m != "efficientnet_v2_s")]

    def work(task):
        model, mode = task
        reports, took = [], 0
        for batch in sorted(batches):
            report, seconds, error = runner.profile(["--model", model, "--mode", mode, "--size", str(size), "--batch",
                                                     str(batch), "--dtype", "bf16"])
            if error:
                fail(f"{model} {mode}: {error}", 1)
            reports.append(report)
            took += seconds
        return f"{model} {mode}, {took:.0f} s", digest(reports[-1], seconds, reports[:-1])
    start = time.monotonic()
    found = runner.all(tasks, work)
    found.sort(key=lambda n: (MODELS.index(n["model"]), n["mode"]))
    return {"gpu": runner.gpu, "machine_code": "--sass" in runner.flags,
            "took_seconds": round(time.monotonic() - start), "networks": found}


def newest_program():
    """Of the builds whose kernels count; the cpu preset's where there is none."""
    counting = [library.parents[2] / "bin/profile" for library in ROOT.glob("build/*/lib/counters/libplume.so")]
    found = [program for program in counting if program.exists()]
    return max(found, key=lambda program: program.stat().st_mtime, default=ROOT / "build/cpu/bin/profile")


def variants_of(runner, slot):
    """Of the simt device, simplest first: the order in which they were written."""
    listed = subprocess.run([str(runner.program), "--device", "simt", "--list-variants"], capture_output=True, text=True)
    here = False
    for line in listed.stdout.splitlines():
        if not line.startswith(" "):
            here = line.strip() == slot
        elif here and line.split()[0] == "simt":
            return [word.rstrip("*") for word in line.split()[1:]][::-1]
    fail(f"{slot} has no variant on simt (profile --list-variants)")


def rung_flags(rung):
    flags = ["--model", rung["model"], "--mode", rung["mode"], "--batch", str(rung["batch"]), "--dtype", "bf16"]
    for name in ("shape", "size", "sample_blocks"):
        if name in rung:
            flags += ["--" + name.replace("_", "-"), str(rung[name])]
    return flags


def climb(runner, rungs, pages=None):
    """Each rung with its variants; `pages`: a folder for the kernels' sources as HTML."""
    tasks = [(i, variant) for i, rung in enumerate(rungs)
             for variant in rung.get("variants") or variants_of(runner, rung["slot"])]

    def work(task):
        rung, variant = rungs[task[0]], task[1]
        more = ["--html", str(pages / f"{rung['slot']}-{variant}.html")] if pages else []
        report, seconds, error = runner.profile(["--kernel", f"{rung['slot']}/{variant}", *rung_flags(rung), *more])
        if error:
            return f"{rung['slot']}/{variant}: {error}", {"variant": variant, "error": error.removeprefix("profile: ")}
        kept = {k: report[k] for k in KEPT + SUMMED + ["requests", "instructions", "l2_bytes", "bytes_in_flight", "mma", "shapes"]}
        kept["kernels"] = [{"kernel": k["kernel"], "predicted_seconds": rounded(k["predicted_seconds"]),
                            "blocks": k["blocks"], "shared_bytes": k["shared_bytes"], "registers": k["registers"],
                            "seconds_of_bounds": {b: rounded(s) for b, s in k["seconds_of_bounds"].items()}}
                           for k in report["kernels"]]
        return f"{rung['slot']}/{variant}, {seconds:.0f} s", {k: rounded(v) for k, v in kept.items()}
    start = time.monotonic()
    found = runner.all(tasks, work)
    climbed = [dict(rung, variants=[]) for rung in rungs]
    for (i, _), variant in zip(tasks, found):
        climbed[i]["variants"].append(variant)
    for rung in climbed:
        if all("error" in v for v in rung["variants"]):
            fail(f"{rung['slot']}: {rung['variants'][0]['error']}")
    return {"gpu": runner.gpu, "took_seconds": round(time.monotonic() - start), "rungs": climbed}


def write(path, data):
    """One call or rung a line, so that changes can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name, inner = ("networks", "calls") if "networks" in data else ("rungs", "variants")
    text = []
    for one in data[name]:
        rest = json.dumps({k: v for k, v in one.items() if k != inner})
        text.append(rest[:-1] + f', "{inner}": [\n  ' + ",\n  ".join(map(json.dumps, one[inner])) + "]}")
    head = json.dumps({k: v for k, v in data.items() if k != name})
    path.write_text(head[:-1] + f', "{name}": [\n' + ",\n".join(text) + "]}\n")


def slot_of_a_user(arguments, slot, rest):
    """`ladder.sh slot [flags of profile]`: the flags as they are."""
    runner = Runner(arguments.program, arguments.gpu, arguments.jobs, rest + arguments.flags, arguments.limit)
    rung = {"slot": slot, "variants": variants_of(runner, slot)}

    def work(variant):
        report, seconds, error = runner.profile(["--kernel", f"{slot}/{variant}"])
        return f"{slot}/{variant}, {seconds:.0f} s", dict(report, variant=variant) if report else \
            {"variant": variant, "error": error.removeprefix("profile: ")}
    rung["variants"] = runner.all(rung["variants"], work)
    if all("error" in v for v in rung["variants"]):
        fail(rung["variants"][0]["error"])
    print("\n".join(tables.plain(tables.variant_rows([rung], with_slot=False))))


def main():
    settings = json.loads((HERE / "rungs.json").read_text())
    parser = argparse.ArgumentParser(prog="ladder.sh", allow_abbrev=False, description="Predicted figures of kernels, written into tables.",
                                     epilog="slot [flags of profile]: its variants one below the other, printed only")
    parser.add_argument("--networks", action="store_true", help="the five networks, inference and training")
    parser.add_argument("--ladders", action="store_true", help="the ladders of kernels/README.md and the lessons")
    parser.add_argument("--tables", action="store_true", help="no runs: the tables again from what is kept")
    parser.add_argument("--lesson", choices=[lesson["name"] for lesson in settings["lessons"]],
                        help="prints a lesson's table, and writes its kernels' pages to out/lessons")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="of the checkout whose tables are written")
    parser.add_argument("--models", default=",".join(MODELS), help="networks, separated by commas")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", default="1,32,256", help="images, separated by commas; of the most all is kept")
    words = sys.argv[1:]
    of_slot = words[:1] != [] and not words[0].startswith("-")  # all that follows is profile's
    arguments, unknown = parser.parse_known_args([] if of_slot else words)
    arguments.program = pathlib.Path(os.environ.get("PROFILE", newest_program()))
    arguments.gpu = os.environ.get("GPU", "h100")
    arguments.jobs = int(os.environ.get("JOBS", len(os.sched_getaffinity(0))))
    arguments.limit = float(os.environ.get("LIMIT", 600))
    arguments.flags = shlex.split(os.environ.get("PROFILE_FLAGS", ""))
    machine_code = ROOT / "build/sass"
    if (machine_code / "complete").exists() and "--sass" not in arguments.flags:  # not while it is being written
        arguments.flags += ["--sass", str(machine_code)]
    if not arguments.tables and not os.access(arguments.program, os.X_OK):
        fail(f"expected a build with counters, found no {arguments.program} (cmake --preset cpu && "
             "cmake --build --preset cpu --target profile plume_counted)")
    if of_slot:
        return slot_of_a_user(arguments, words[0], words[1:])
    if unknown:
        fail(f"unknown argument '{unknown[0]}' (--help)")
    try:
        batches = [int(batch) for batch in arguments.batch.split(",")]
    except ValueError:
        fail(f"--batch: expected numbers separated by commas, found '{arguments.batch}'")
    unknown = [m for m in arguments.models.split(",") if m not in MODELS]
    if unknown:
        fail(f"--models: '{unknown[0]}' is not one of {', '.join(MODELS)}")
    runner = Runner(arguments.program, arguments.gpu, arguments.jobs, arguments.flags, arguments.limit)
    if arguments.lesson:
        lesson = next(one for one in settings["lessons"] if one["name"] == arguments.lesson)
        pages = ROOT / "out/lessons" / lesson["name"]
        pages.mkdir(parents=True, exist_ok=True)
        climbed = climb(runner, lesson["rungs"], pages)
        print("\n".join(tables.plain(tables.lesson_rows(lesson, climbed["rungs"]))))
        print(f"source, line by line: {pages.relative_to(ROOT)}/*.html")
        return None
    results = arguments.root / f"bench/results/predictions-{pathlib.Path(arguments.gpu).stem}"
    everything = not (arguments.networks or arguments.ladders or arguments.tables)
    if arguments.networks or everything:
        write(results / "networks.json", networks(runner, arguments.models.split(","), arguments.size, batches))
    if arguments.ladders or everything:
        rungs = settings["ladders"] + [dict(rung, lesson=one["name"]) for one in settings["lessons"] for rung in one["rungs"]]
        write(results / "ladders.json", climb(runner, rungs))
    settings["estimates"] = json.loads((HERE / "estimates.json").read_text())
    settings["passes"] = json.loads((HERE / "passes.json").read_text())["passes"]
    return tables.write_all(arguments.root, results, settings)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, tables.TableError) as failure:
        print(f"ladder: {failure.args[0]}", file=sys.stderr)
        sys.exit(failure.args[1] if len(failure.args) > 1 else 1)
    except KeyboardInterrupt:
        sys.exit(130)
