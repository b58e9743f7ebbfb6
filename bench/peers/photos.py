#!/usr/bin/env python3
"""Do pretrained networks see in photos what they should? Reference logits against `predict`.

    photos.py --predict build/cpu/bin/predict --weights-dir DIR --photos-dir DIR [--model resnet18 ...]

DIR of the weights has MODEL.safetensors, whose __metadata__ says model, mean, std, resize, crop and rotate180, or
MODEL.safetensors.zst, which is unpacked with zstd, and beside it MODEL.photos100.logits.safetensors with `logits`
[photos, classes] in the order of labels.tsv. DIR of the photos has labels.tsv with the columns file and class, and the
photos.

One line per model. From tensors: the photos as Pillow decodes and resizes them go in through --tensor. From files:
`predict` decodes and resizes by itself. Both ways every top-1 must be the reference's and the logits within
--tolerance: the largest difference divided by the largest magnitude of that photo's reference. Exit status 1 when a
model fails.
"""
import argparse
import csv
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def read_safetensors(path):
    """(metadata, {name: f32 array})"""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        if entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], np.float32)
            tensors[name] = values.reshape(entry["shape"])
    return metadata, tensors


def write_input(path, images):
    header = {"input": {"dtype": "F32", "shape": list(images.shape), "data_offsets": [0, images.nbytes]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + images.tobytes())


def prepare(path, metadata):
    """A photo as Pillow has it, [3, crop, crop]: torchvision's Resize, CenterCrop, ToTensor and Normalize."""
    image = Image.open(path).convert("RGB")
    shorter, crop = int(metadata["resize"]), int(metadata["crop"])
    width, height = image.size
    size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
    image = image.resize(size, Image.BILINEAR)
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32) / np.float32(255)
    mean, std = (np.array(metadata[key].split(","), np.float32) for key in ("mean", "std"))
    pixels = (pixels - mean) / std
    if metadata.get("rotate180") == "1":
        pixels = pixels[::-1, ::-1]
    return pixels.transpose(2, 0, 1)


def deviation(logits, reference):
    """Per photo."""
    return np.abs(logits - reference).max(axis=1) / np.abs(reference).max(axis=1)


def known_models(predict):
    """The networks that the program lists for --model."""
    text = subprocess.run([predict, "--help"], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        if line.split()[:1] == ["--model"]:
            return set(line.split()[1].split("|"))
    sys.exit(f"{predict} --help lists no models")


def find_models(folder):
    return sorted(p.name.removesuffix(".photos100.logits.safetensors") for p in folder.glob("*.photos100.logits.safetensors"))


def unpacked(folder, model, scratch):
    plain, packed = folder / f"{model}.safetensors", folder / f"{model}.safetensors.zst"
    if plain.exists() or not packed.exists():
        return plain
    target = scratch / plain.name
    subprocess.run(["zstd", "-q", "-d", "-f", str(packed), "-o", str(target)], check=True)
    return target


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"exit code {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def check(model, args, photos, labels, scratch):
    """(passed, line)"""
    weights = unpacked(args.weights_dir, model, scratch)
    metadata, _ = read_safetensors(weights)
    _, stored = read_safetensors(args.weights_dir / f"{model}.photos100.logits.safetensors")
    reference = stored["logits"]
    if reference.shape[0] != len(photos):
        raise RuntimeError(f"{reference.shape[0]} rows of reference logits for {len(photos)} photos")
    images = np.stack([prepare(photo, metadata) for photo in photos]).astype(np.float32)
    into, out = scratch / "input.safetensors", scratch / "logits.safetensors"
    write_input(into, np.ascontiguousarray(images))
    command = [args.predict, "--model", model, "--weights", str(weights), "--device", args.device]
    run([*command, "--tensor", str(into), "--logits", str(out)])
    from_tensors = read_safetensors(out)[1]["logits"]
    out.unlink()
    listing = json.loads(run([*command, "--json", "--top", "5", "--logits", str(out), *map(str, photos)]))
    from_files = read_safetensors(out)[1]["logits"]
    files_top5 = np.array([[guess["class"] for guess in image["top"]] for image in listing["images"]])

    top = reference.argmax(axis=1)
    same_tensor, same_files = int((from_tensors.argmax(axis=1) == top).sum()), int((files_top5[:, 0] == top).sum())
    by_tensor, by_files = deviation(from_tensors, reference), deviation(from_files, reference)
    right1 = int((files_top5[:, 0] == labels).sum())
    right5 = int((files_top5 == labels[:, None]).any(axis=1).sum())
    passed = same_tensor == same_files == len(photos) and max(by_tensor.max(), by_files.max()) <= args.tolerance
    line = (
        f"{model:20} {'ok  ' if passed else 'FAIL'}  from tensors: same top-1 {same_tensor}/{len(photos)}, "
        f"deviation {by_tensor.max():.1e}  from files: same top-1 {same_files}/{len(photos)}, "
        f"deviation {by_files.max():.1e} (median {np.median(by_files):.1e})  "
        f"right: top-1 {right1}, top-5 {right5} of {len(photos)}"
    )
    return passed, line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", default="build/cpu/bin/predict", help="the program")
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--photos-dir", type=Path, required=True)
    parser.add_argument("--model", action="append", help="only this one; may be repeated")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the logits")
    args = parser.parse_args()
    with open(args.photos_dir / "labels.tsv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    photos = [args.photos_dir / row["file"] for row in rows]
    labels = np.array([int(row["class"]) for row in rows])
    models = args.model or find_models(args.weights_dir)
    if not models:
        sys.exit(f"{args.weights_dir}: no *.photos100.logits.safetensors")
    known, failed, compared = known_models(args.predict), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            if model not in known and not args.model:
                print(f"{model:20} not a network of {args.predict}")
                continue
            compared += 1
            try:
                passed, line = check(model, args, photos, labels, Path(scratch))
            except (RuntimeError, OSError, KeyError, ValueError, subprocess.CalledProcessError) as error:
                passed, line = False, f"{model:20} FAIL  {error}"
            failed += not passed
            print(line, flush=True)
    sys.exit(1 if failed or not compared else 0)


if __name__ == "__main__":
    main()
