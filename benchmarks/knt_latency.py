"""What the keyed transform costs: milliseconds per call at the layers of EfficientNet-lite0, beside its forward pass.

Batch 1, float32, unless a row says otherwise; 30 warm-up calls, then 200, in inference mode; slow rows
stop after 8 seconds, and never before 30 calls. Each row is measured with 1 and with 2 threads and the lower median is
kept. "straight" is the definition written operation by operation. The backbone runs at 224 x 224 up to the pooled
features.

Run: python benchmarks/knt_latency.py --out knt_latency.json
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfl.networks.backbones import EfficientNetLite0
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey, KeyContext, MasterKey
from medfl.privacy.mixing import HAAR_LIMIT

SHAPES = ((1280,), (320, 7, 7), (24, 56, 56))
TARGETS_MS = {"1280": 0.15, "320 x 7 x 7": 0.20, "24 x 56 x 56": 0.60}
WARM_UPS, CALLS, LIMIT_S = 30, 200, 8.0


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with torch.inference_mode():
        backbone = EfficientNetLite0().eval()
        image = torch.rand(1, 3, 224, 224)
        whole = best(lambda: backbone(image), arguments.calls)
        rows = [{"shape": "224 x 224", "what": "backbone", **whole}]
        for shape in SHAPES:
            for what, call in measured(shape):
                rows.append({"shape": " x ".join(map(str, shape)), "what": what, **best(call, arguments.calls)})
    for row in rows:
        row["percent_of_backbone"] = 100 * row["median_ms"] / whole["median_ms"]
    table(rows)
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"machine": machine(), "calls": arguments.calls, "rows": rows}, indent=2) + "\n"
        )


def measured(shape: tuple[int, ...]) -> list[tuple[str, Callable[[], object]]]:
    """Return what is timed at one layer, with its name."""
    channels = shape[0]
    generator = torch.Generator().manual_seed(0)
    one, many = torch.randn(1, *shape, generator=generator), torch.randn(64, *shape, generator=generator)
    mean, scale = torch.randn(channels, generator=generator), torch.rand(channels, generator=generator) + 0.5
    hadamard = TransformSettings()
    master = MasterKey.generate()

    def build(settings: TransformSettings) -> KeyedNonlinearTransform:
        return KeyedNonlinearTransform(context_key(master, shape, settings), shape, settings, mean, scale)

    knt, affine = build(hadamard), build(TransformSettings(mode="affine"))
    plain = build(TransformSettings(mixer="none"))
    keyed, sigma = knt(one), torch.tensor(0.5)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("knt", lambda: knt(one)),
        ("knt, batch 64", lambda: knt(many)),
        ("knt, straight", straight(context_key(master, shape, hadamard), one, mean, scale)),
        ("inverse", lambda: knt.inverse(keyed)),
        ("key schedule", lambda: build(hadamard)),
        ("affine", lambda: affine(one)),
        ("no mixer", lambda: plain(one)),
        ("gaussian noise", lambda: one + sigma * torch.randn_like(one)),
        ("copy", lambda: one.clone()),
    ]
    if channels <= HAAR_LIMIT:
        haar = build(TransformSettings(mixer="haar"))
        calls.insert(3, ("knt, haar", lambda: haar(one)))
    return calls


def straight(key: ContextKey, one: Tensor, mean: Tensor, scale: Tensor) -> Callable[[], Tensor]:
    """Return the transform at default settings, written as it is defined."""
    settings = TransformSettings()
    channels, shape = one.shape[1], one.shape
    size = min(settings.block, channels & -channels)
    walsh = torch.ones(1, 1)
    while len(walsh) < size:
        walsh = torch.cat([torch.cat([walsh, walsh], 1), torch.cat([walsh, -walsh], 1)])
    walsh = walsh / size**0.5
    positions = one[0, 0].numel()

    def column(values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values)).float().view(1, channels, 1)

    stages, waves = [], []
    for number in range(1, settings.rounds + 2):
        stream = key.stream(f"mix|{number}")
        for _ in range(2):
            stages.append((column(stream.signs(channels)), torch.from_numpy(stream.permutation(channels))))
    for number in range(1, settings.rounds + 1):
        stream = key.stream(f"nl|{number}")
        u = stream.uniforms(3 * channels).reshape(3, channels)
        omega = settings.omega[0] + (settings.omega[1] - settings.omega[0]) * u[0]
        slope = stream.signs(channels) * settings.kappa * (0.5 + 0.5 * u[2])
        waves.append((column(slope / omega), column(omega), column(2 * np.pi * u[1])))
    source = torch.from_numpy(np.argsort(key.stream("perm").permutation(positions)))
    mu, sigma = column(mean), column(scale)

    def call() -> Tensor:
        x = (one.reshape(1, channels, positions) - mu) / (sigma + 1e-6)
        for number, (signs, order) in enumerate(stages):
            x = (walsh @ (x * signs).view(channels // size, size, positions)).view(1, channels, positions)[:, order]
            if number % 2 and number // 2 < len(waves):
                a, omega, theta = waves[number // 2]
                x = x + a * torch.sin(omega * x + theta)
        return (x if positions == 1 else x[:, :, source]).view(shape)

    expected = KeyedNonlinearTransform(key, tuple(shape[1:]), settings, mean, scale)(one)
    torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-4)
    return call


def context_key(master: MasterKey, shape: tuple[int, ...], settings: TransformSettings) -> ContextKey:
    """Return a key for these features."""
    context = KeyContext("bench", "", "latency", "none", "none", shape, settings.digest(), "federation", 0)
    return master.derive(context)


def best(call: Callable[[], object], calls: int) -> dict[str, Any]:
    """Return the timing with 1 or 2 threads, whichever has the lower median."""
    timings = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        timings.append({**timing(call, calls), "threads": threads})
    return min(timings, key=lambda row: row["median_ms"])


def timing(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Return median, 95th percentile and minimum in milliseconds."""
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < WARM_UPS + calls and (len(seconds) < 2 * WARM_UPS or time.perf_counter() < started + LIMIT_S):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    kept = 1e3 * np.array(seconds[WARM_UPS:])
    median, p95 = np.percentile(kept, [50, 95])
    return {"median_ms": float(median), "p95_ms": float(p95), "min_ms": float(kept.min()), "calls": len(kept)}


def table(rows: list[dict[str, Any]]) -> None:
    """Print one line per row."""
    print(f"{'shape':<14}{'what':<18}{'median ms':>11}{'p95 ms':>10}{'min ms':>10}{'threads':>9}{'% backbone':>12}")
    for row in rows:
        target = f"  target {TARGETS_MS[row['shape']]:.2f} ms" if row["what"] == "knt" else ""
        print(
            f"{row['shape']:<14}{row['what']:<18}{row['median_ms']:>11.3f}{row['p95_ms']:>10.3f}{row['min_ms']:>10.3f}"
            f"{row['threads']:>9}{row['percent_of_backbone']:>12.2f}{target}"
        )


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    main()
