#!/usr/bin/env python3
"""How many JPEGs a second one thread decodes to RGB, from files: `time_decode` beside Pillow.

    decode.py --photos-dir DIR [--build build/cpu] [--rounds 5] [--also LABEL=COMMAND ...]

Every photo of DIR is resized to 500x375 and saved with quality 90. Then the decoders take turns, each in a process of
its own; COMMAND is another program that takes files and prints "N images/s". Prints the best and the median rate of
each. That the pixels are Pillow's is what the tests hold.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, features

ENDINGS = {".jpg", ".jpeg", ".png"}


def write_photos(source, target):
    files = []
    for path in sorted(p for p in Path(source).iterdir() if p.suffix.lower() in ENDINGS):
        file = Path(target) / f"{path.stem}.jpg"
        Image.open(path).convert("RGB").resize((500, 375), Image.BICUBIC).save(file, quality=90)
        files.append(str(file))
    return files


def pillow(files):
    start = time.perf_counter()
    for file in files:
        Image.open(file).convert("RGB").load()
    return len(files) / (time.perf_counter() - start)


def measured(command):
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(text)["images_per_second"] if text.startswith("{") else float(text.split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", required=True)
    parser.add_argument("--build", type=Path, default=Path("build/cpu"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--also", action="append", default=[], metavar="LABEL=COMMAND")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_photos(args.photos_dir, folder)
        program = str(args.build / "bin" / "time_decode")
        decoders = {"plume": [program, *files], "plume, own decoders": [program, "--own-decoders", *files],
                    "plume, --least-side 128": [program, "--least-side", "128", *files]}
        for label, _, command in (text.partition("=") for text in args.also):
            decoders[label] = [command, *files]
        rates = {label: [] for label in [*decoders, "Pillow"]}
        os.environ["OMP_NUM_THREADS"] = "1"
        for _ in range(args.rounds):
            for label, command in decoders.items():
                rates[label].append(measured(command))
            rates["Pillow"].append(pillow(files))
    print(f"{len(files)} JPEGs of 500x375, quality 90; Pillow with libjpeg-turbo {features.version('libjpeg_turbo')}")
    for label, found in rates.items():
        print(f"{label:26} best {max(found):7.0f}/s  median {statistics.median(found):7.0f}/s")


if __name__ == "__main__":
    sys.exit(main())
