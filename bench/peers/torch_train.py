#!/usr/bin/env python3
"""A recipe of tools/train in PyTorch, from scratch or fine-tuning, on CIFAR-10 or CIFAR-100 at 32x32.

    torch_train.py --model resnet18 --data cifar10 --data-dir DIR --epochs 5 --batch 128 --lr 0.05 --seed 1

DIR holds the data set's official binary files, or the folder that its archive makes. Networks are torchvision's, with
the cifar stem where asked. SGD with momentum or Adam, weight decay on all parameters, cosine schedule per step with
linear warm-up (engine/optim/schedule.h), crops from images padded by 4 black pixels, flips, the data set's own
statistics, an incomplete last batch left out. All training images are trained on: compare with train --validation 0.
One line of JSON per epoch.
"""
import argparse
import json
import math
import pathlib
import sys
import time

# name: classes, label bytes in front of the pixels (the last is the class), folder, training files, test
# file, mean, std
DATA = {
    "cifar10": (10, 1, "cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin",
                (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": (100, 2, "cifar-100-binary", ["train.bin"], "test.bin",
                 (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
PIXELS = 3 * 32 * 32


def read(folder, names, label_bytes):
    import numpy
    records = []
    for name in names:
        path = folder / name
        data = numpy.fromfile(path, dtype=numpy.uint8)
        if data.size == 0 or data.size % (label_bytes + PIXELS):
            raise ValueError(f"{path}: {data.size} bytes are not a whole number of {label_bytes + PIXELS}-byte records")
        records.append(data.reshape(-1, label_bytes + PIXELS))
    records = numpy.concatenate(records)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(numpy.int64)


def cifar_stem(model, name):
    """The first layers for small images: stride 1, no max pool, as models/ has them."""
    import torch
    if name == "resnet18":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        torch.nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = torch.nn.Identity()
    elif name.startswith("shufflenet"):
        model.conv1[0].stride = (1, 1)
        model.maxpool = torch.nn.Identity()
    elif name == "mobilenet_v3_small" or name == "efficientnet_v2_s":
        model.features[0][0].stride = (1, 1)
    elif name.startswith("squeezenet"):
        convolution = model.features[0]
        convolution.stride, convolution.padding = (1, 1), (convolution.kernel_size[0] // 2,) * 2
        model.features[2] = torch.nn.Identity()
    else:
        raise ValueError(f"no cifar stem for {name}")
    return model


def rate(step, base, warmup_steps, total_steps):
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return base * 0.5 * (1.0 + math.cos(math.pi * progress))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, type=pathlib.Path)
    parser.add_argument("--data", default="cifar10", choices=sorted(DATA))
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--stem", default="imagenet", choices=["imagenet", "cifar"])
    parser.add_argument("--optimizer", default="sgd", choices=["sgd", "adam"])
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
    classes, label_bytes, archive, train_files, test_file, mean, deviation = DATA[args.data]
    folder = args.data_dir
    if (folder / archive).is_dir():
        folder = folder / archive
    try:
        train_images, train_labels = read(folder, train_files, label_bytes)
        test_images, test_labels = read(folder, [test_file], label_bytes)
    except (OSError, ValueError) as error:
        print(f"torch_train: {error}", file=sys.stderr)
        return 3
    limit = lambda array, n: torch.from_numpy(array[:n] if n else array)
    x_train, y_train = limit(train_images, args.limit_train), limit(train_labels, args.limit_train)
    x_test, y_test = limit(test_images, args.limit_test), limit(test_labels, args.limit_test)

    device = torch.device(args.device)
    mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor(deviation, device=device).view(1, 3, 1, 1)
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

    model = torchvision.models.__dict__[args.model](num_classes=classes)
    if args.stem == "cifar":
        model = cifar_stem(model, args.model)
    model = model.to(device).to(memory_format=torch.channels_last)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    if args.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum,
                                    weight_decay=args.weight_decay)
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
