"""Runs ONNX Runtime, and on CUDA machines PyTorch, on the jobs of repquant, and prints tables of ratios in Markdown.

The programs take turns, so that a ratio holds on a machine whose load changes; figures are medians of the rounds.

  python compare.py [--rounds N] [--seconds S] [--only forward|quantize|cuda] --bin FOLDER

FOLDER holds `repquant`, and below it `examples/forward` and `examples/draw_images` (cargo's release folder).
REPQUANT_TEST_DATA names a folder with `models/repvgg-cifar10.safetensors`, `data/cifar10/calib` and `data/photos`;
without it networks and images are made here. Tables are also added to the file in REPQUANT_BENCH_TABLES, figures that have a target to the one in
REPQUANT_BENCH_TARGETS.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnxruntime

import preparation

HERE = pathlib.Path(__file__).resolve().parent


class Job:
    """A network with the images to calibrate it on."""

    def __init__(self, name, model, arch, images, count, batch):
        self.name, self.model, self.arch, self.images, self.count, self.batch = name, model, arch, images, count, batch

    def described(self):
        """The arguments that name the model to `repquant`."""
        return [str(self.model)] + (["--arch", self.arch] if self.arch else [])


def jobs(folder, programs):
    """RepVGG-A0 with random weights on photographs, and the small network on small images."""
    a0 = folder / "a0.safetensors"
    preparation.write_repvgg_a0(a0)
    data = os.environ.get("REPQUANT_TEST_DATA")
    if data:
        data = pathlib.Path(data).resolve()
        small = Job(
            "repvgg-cifar10, 512 CIFAR images",
            data / "models/repvgg-cifar10.safetensors",
            None,
            data / "data/cifar10/calib",
            512,
            64,
        )
        photographs, what = data / "data/photos", "128 full-size photographs"
    else:
        model, drawn = folder / "small.safetensors", folder / "drawn"
        preparation.write_repvgg_small(model)
        check(subprocess.run([programs / "examples/draw_images", drawn, "calibration", "512"]))
        small = Job("a network of repvgg-cifar10's shape, 512 drawn images", model, None, drawn, 512, 64)
        photographs, what = folder / "photographs", "128 drawn JPEG files of 500×375"
        preparation.draw_photographs(photographs, 128)
    return [small, Job(f"RepVGG-A0 at 224, {what}", a0, "repvgg-a0", photographs, 128, 8)]


def check(done):
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, done.args))}\n{(done.stderr or b'').decode()}")
    return done


def fused(job, folder, programs):
    """The float network as ONNX."""
    path = folder / f"{job.model.stem}.onnx"
    check(subprocess.run([programs / "repquant", "fuse", *job.described(), "-o", path, "--force"], capture_output=True))
    return path


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


# Forward pass


def runtime_rate(session, x, seconds):
    """Images a second of ONNX Runtime."""
    start, runs = time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - start < seconds:
        session.run(None, {"input": x})
        runs += 1
    return runs * len(x) / (time.perf_counter() - start)


def forward(job, folder, programs, rounds, seconds):
    """Images a second: ours in float, int8, int8 with the centre split, and ONNX Runtime in float."""
    model = fused(job, folder, programs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    # Its threads would keep the cores busy while the others run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2:]
    x = numpy.random.default_rng(1).normal(size=(job.batch, 3, *size)).astype(numpy.float32)
    session.run(None, {"input": x})
    rates = []
    for _ in range(rounds):
        command = [programs / "examples/forward", job.model, str(job.batch), str(seconds), "1"]
        command += [job.arch] if job.arch else []
        ours = json.loads(check(subprocess.run(command, capture_output=True)).stdout)
        theirs = runtime_rate(session, x, seconds)
        rates.append([ours["f32"][0], ours["int8"][0], ours["int8_split"][0], theirs])
    return numpy.array(rates)


def forward_table(all_jobs, folder, programs, rounds, seconds):
    head = ["network", "ours f32", "ours int8", "ours int8, centre split", "ONNX Runtime f32"]
    head += ["f32 ÷ ONNX Runtime", "int8 split ÷ f32", "split ÷ unsplit"]
    rows = []
    for job in all_jobs:
        rates = forward(job, folder, programs, rounds, seconds)
        f32, int8, split, theirs = rates.T
        ratios = [statistics.median(ratio) for ratio in (f32 / theirs, split / f32, split / int8)]
        name = f"{job.name.split(',')[0]}, batch {job.batch}"
        rows.append([name, *(f"{statistics.median(r):.0f}" for r in rates.T), *(f"{ratio:.2f}" for ratio in ratios)])
        target(f"f32 forward of {name} ÷ ONNX Runtime", "0.8", f"{ratios[0]:.2f}", ratios[0] >= 0.8)
    return f"Forward pass on {cores()} cores, images/s", head, rows


# Whole processes


def measured(command):
    """Seconds and peak bytes of a process."""
    launcher = [sys.executable, "-I", "-S", HERE / "measure.py"]
    run = json.loads(check(subprocess.run([*launcher, *map(str, command)], capture_output=True)).stdout)
    if run["status"] != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{run['output']}")
    return run["seconds"], run["bytes"]


def in_turn(ours, theirs, rounds):
    """Medians of both: seconds and bytes of ours, of theirs, and the median of the ratios of each round."""
    runs = numpy.array([measured(ours) + measured(theirs) for _ in range(rounds)])
    ratios = runs[:, 2:] / runs[:, :2]
    return numpy.median(runs, axis=0), numpy.median(ratios, axis=0)


def process_rows(job, peer, ours, theirs, rounds, wanted):
    (seconds, memory, their_seconds, their_memory), (faster, smaller) = in_turn(ours, theirs, rounds)
    rows = []
    for unit, own, other, ratio, least, digits in [
        ("seconds", seconds, their_seconds, faster, wanted and 4, 2),
        ("peak MB", memory / 1e6, their_memory / 1e6, smaller, wanted and 8, 0),
    ]:
        rows.append([f"{job.name}: {unit}", f"{own:.{digits}f}", f"{other:.{digits}f}", f"{ratio:.1f}"])
        if least:
            target(f"{peer} ÷ `quantize`, {unit}: {job.name}", str(least), f"{ratio:.1f}", ratio >= least)
    return rows


def quantize_table(all_jobs, folder, programs, rounds, device, peer):
    head = ["job", "ours", peer, f"{peer} ÷ ours"]
    rows = []
    for job in all_jobs:
        model = fused(job, folder, programs)
        ours = [programs / "repquant", "quantize", *job.described(), "--images", job.images, "--limit", job.count]
        # The same work: ONNX Runtime tries nothing, and rounds to nearest.
        ours += ["--threshold", "kl-reparam", "--rounding", "nearest"]
        ours += ["-o", folder / "ours.onnx", "--force", "--quiet", "--device", device]
        if peer == "ONNX Runtime":
            theirs = [sys.executable, HERE / "ort_quantize.py", model, job.images, job.count, folder / "theirs.onnx"]
        else:
            theirs = [sys.executable, HERE / "torch_calibrate.py", model, job.images, job.count]
        rows += process_rows(job, peer, ours, theirs, rounds, peer == "ONNX Runtime")
    title = f"Whole `quantize` on the device `{device}`, {cores()} cores, from the start of the process to the finished file"
    return title, head, rows


def cuda():
    """The name of the CUDA device, and none without one."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def add(variable, text):
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def target(what, wanted, measured, met):
    """States a figure that the project has a target for."""
    add("REPQUANT_BENCH_TARGETS", f"| {what} | {cores()} cores | {wanted} | {measured} | {'yes' if met else 'no'} |\n")


def write(title, head, rows):
    line = lambda cells: f"| {' | '.join(cells)} |\n"
    text = f"\n**{title}**\n\n" + line(head) + line(["---"] + ["---:"] * (len(head) - 1)) + "".join(map(line, rows))
    print(text, flush=True)
    add("REPQUANT_BENCH_TABLES", text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", choices=["forward", "quantize", "cuda"])
    arguments = parser.parse_args()
    programs, rounds = arguments.bin.resolve(), arguments.rounds
    wanted = lambda part: arguments.only in (None, part)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        all_jobs = jobs(folder, programs)
        if wanted("forward"):
            write(*forward_table(all_jobs, folder, programs, 2 * rounds + 1, arguments.seconds))
        if wanted("quantize"):
            write(*quantize_table(all_jobs, folder, programs, rounds, "cpu", "ONNX Runtime"))
        if wanted("cuda"):
            if name := cuda():
                write(*quantize_table(all_jobs, folder, programs, rounds, "auto", f"PyTorch on {name}"))
            else:
                print("PyTorch with CUDA is not there: its histogram calibration was left out.")


if __name__ == "__main__":
    main()
