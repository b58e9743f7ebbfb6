#!/usr/bin/env python3
"""The recipe of tools/train in PyTorch: ResNet18 with its ImageNet stem on CIFAR-10 at 32x32, from scratch.

    torch_train_cifar10.py --data-dir DIR --epochs 5 --batch 128 --lr 0.05 --seed 1

DIR holds CIFAR-10's official binary files, or a folder cifar-10-batches-bin with them. SGD with momentum 0.9 and weight
decay 5e-4 on all parameters, cosine schedule per step with one epoch of linear warm-up (engine/optim/schedule.h), crops
from images padded by 4 black pixels, flips, CIFAR-10's own statistics, an incomplete last batch left out. One line of
JSON per epoch.
"""
import argparse
import json
import math
import pathlib
import sys
import time

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RECORD = 1 + 3 * 32 * 32


def read(folder, names):
    import numpy
    records = []
    for name in names:
        path = folder / name
        data = numpy.fromfile(path, dtype=numpy.uint8)
        if data.size == 0 or data.size % RECORD:
            raise ValueError(f"{path}: {data.size} bytes are not a whole number of {RECORD}-byte records")
        records.append(data.reshape(-1, RECORD))
    records = numpy.concatenate(records)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(numpy.int64)


def rate(step, base, warmup_steps, total_steps):
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return base * 0.5 * (1.0 + math.cos(math.pi * progress))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, type=pathlib.Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--warmup-epochs", type=int, default=1)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--limit-train", type=int, default=0, help="0: all images")
    parser.add_argument("--limit-test", type=int, default=0, help="0: all images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's choice")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    import torch
    import torchvision
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    folder = args.data_dir
    if (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    try:
        train_images, train_labels = read(folder, [f"data_batch_{i}.bin" for i in range(1, 6)])
        test_images, test_labels = read(folder, ["test_batch.bin"])
    except (OSError, ValueError) as error:
        print(f"torch_train_cifar10: {error}", file=sys.stderr)
        return 3
    limit = lambda array, n: torch.from_numpy(array[:n] if n else array)
    x_train, y_train = limit(train_images, args.limit_train), limit(train_labels, args.limit_train)
    x_test, y_test = limit(test_images, args.limit_test), limit(test_labels, args.limit_test)

    device = torch.device(args.device)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    normalise = lambda images: ((images.to(device).float() / 255) - mean) / deviation
    padded = torch.nn.functional.pad(x_train, (4, 4, 4, 4))
    random = torch.Generator().manual_seed(args.seed)

    def augment(indices):
        n = len(indices)
        top, left = torch.randint(0, 9, (2, n), generator=random)
        rows = (top[:, None] + torch.arange(32)).view(n, 1, 32, 1)
        columns = left[:, None] + torch.arange(32)
        flipped = torch.rand(n, generator=random) < 0.5
        columns[flipped] = columns[flipped].flip(1)
        channels = torch.arange(3).view(1, 3, 1, 1)
        return normalise(padded[indices.view(n, 1, 1, 1), channels, rows, columns.view(n, 1, 1, 32)])

    model = torchvision.models.__dict__[args.model](num_classes=10).to(device).to(memory_format=torch.channels_last)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    batches = max(len(x_train) // args.batch, 1)
    total, warmup, step = args.epochs * batches, args.warmup_epochs * batches, 0
    for epoch in range(args.epochs):
        model.train()
        order = torch.randperm(len(x_train), generator=random)
        loss_sum, start = 0.0, time.time()
        for batch in range(batches):
            indices = order[batch * args.batch:(batch + 1) * args.batch]
            for group in optimizer.param_groups:
                group["lr"] = rate(step, args.lr, warmup, total)
            images = augment(indices).contiguous(memory_format=torch.channels_last)
            loss = criterion(model(images), y_train[indices].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            step += 1
        seconds = time.time() - start
        model.eval()
        correct = 0
        with torch.inference_mode():
            for first in range(0, len(x_test), 250):
                images = normalise(x_test[first:first + 250]).contiguous(memory_format=torch.channels_last)
                correct += int((model(images).argmax(1).cpu() == y_test[first:first + 250]).sum())
        print(json.dumps({"framework": "pytorch", "version": torch.__version__, "epoch": epoch + 1,
                          "train_loss": loss_sum / batches, "test_top1": correct / len(x_test),
                          "images_per_second": batches * min(args.batch, len(x_train)) / seconds}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
