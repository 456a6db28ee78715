"""`vidgen doctor`: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vidgen.errors import VidgenError
from vidgen.profiling.roofline import matmul_rate
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.options import JsonOption
from vidgen.scripts.cli.printing import print_json

Status = Literal["ok", "warn"]
MIN_FREE_GB = 2.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report: what was checked, its status, what was found, and what to do about a warning."""

    name: str
    status: Status
    found: str
    advice: str = ""


def version_of(name: str) -> str:
    """Return the version of an installed package."""
    import importlib.metadata  # not at the top: it is slow, and every `vidgen --help` would wait for it

    return importlib.metadata.version(name)


def look_at_python() -> Iterator[Finding]:
    """Yield the versions of Python and the main packages, and the number of threads."""
    import platform

    import torch

    yield Finding(name="python", status="ok", found=f"{platform.python_version()} ({sys.executable})")
    versions = [f"{name} {version_of(name)}" for name in ("torch", "diffusers", "transformers")]
    yield Finding(name="packages", status="ok", found=", ".join(versions))
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    fine = not cores or threads <= cores
    advice = f"more threads than the {cores} cores: set OMP_NUM_THREADS={cores}"
    text = f"{threads} threads" + (f" on {cores} cores" if cores else "")
    yield Finding(name="threads", status="ok" if fine else "warn", found=text, advice="" if fine else advice)


def look_at_speed() -> Iterator[Finding]:
    """Yield the rate of matrix products in float32 and bfloat16."""
    from vidgen.models.placement import has_fast_bfloat16

    plain = matmul_rate("float32")
    half = matmul_rate("bfloat16")
    fast = half > 1.2 * plain
    advice = (
        ""
        if fast
        else "bfloat16 brings no speed on this CPU: use --dtype float32, and autocast=float32 in `vidgen train`"
    )
    text = f"float32 {plain:.0f}, bfloat16 {half:.0f} GFLOP/s"
    native = "native bfloat16" if has_fast_bfloat16("cpu") else "bfloat16 emulated"
    yield Finding(name="matmul", status="ok" if fast else "warn", found=f"{text} ({native})", advice=advice)


def look_at_devices() -> Iterator[Finding]:
    """Yield the GPUs, and whether xformers is installed."""
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(i)
            yield Finding(name=f"cuda:{i}", status="ok", found=f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding(name="mps", status="ok", found="Apple GPU; choose it with --device mps")
    else:
        yield Finding(name="gpu", status="ok", found="none that PyTorch can use; the CPU does the work")
    if importlib.util.find_spec("xformers"):
        yield Finding(name="xformers", status="ok", found=f"{version_of('xformers')} (--attention xformers)")
    else:
        yield Finding(name="xformers", status="ok", found="not installed; an extra for GPUs: pip install 'vidgen[gpu]'")


def look_at_codecs() -> Iterator[Finding]:
    """Yield the version of PyAV, and the codecs that it lacks."""
    import av

    encoders = [name for name in ("libx264", "ffv1") if not has_codec(name, "w")]
    decoders = [name for name in ("h264", "hevc", "vp9", "av1", "mjpeg", "mpeg4") if not has_codec(name, "r")]
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    missing = [f"cannot write {n}" for n in encoders] + [f"cannot read {n}" for n in decoders]
    advice = "install PyAV's own wheels: pip install --force-reinstall --only-binary av av" if missing else ""
    text = f"PyAV {av.__version__}, libavcodec {version}" + "".join(f"; {m}" for m in missing)
    yield Finding(name="video", status="warn" if missing else "ok", found=text, advice=advice)


def has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    """Return whether PyAV can read ("r") or write ("w") a codec."""
    import av

    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


def look_at_models() -> Iterator[Finding]:
    """Yield the shipped models, and whether each loads."""
    from vidgen.checkpoints.hub import SHIPPED
    from vidgen.pipelines.loading import load_feature_encoder

    folders = sorted(path for path in SHIPPED.glob("*") if path.is_dir()) if SHIPPED.is_dir() else []
    if not folders:
        yield Finding(name="models", status="warn", found=f"none in {SHIPPED}", advice="install the package again")
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
        try:
            load_feature_encoder(folder.name)
        except VidgenError as error:
            yield Finding(name=folder.name, status="warn", found=str(error), advice="install the package again")
            continue
        yield Finding(name=folder.name, status="ok", found=f"shipped model, {size:.1f} MiB, loads")


def look_at_disk() -> Iterator[Finding]:
    """Yield the free space of the current folder, and whether it can be written to."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    short = free < MIN_FREE_GB
    advice = "clips and checkpoints need room: free some, or work elsewhere" if short else ""
    yield Finding(name="disk", status="warn" if short else "ok", found=f"{free:.1f} GiB free here", advice=advice)
    writable = os.access(Path.cwd(), os.W_OK)
    if not writable:
        yield Finding(name="folder", status="warn", found=f"{Path.cwd()} is read-only", advice="name outputs with -o")


def look_at_hub() -> Iterator[Finding]:
    """Yield whether models may be fetched from the hub, and where its cache is."""
    from huggingface_hub import constants

    from vidgen.checkpoints.hub import is_offline

    cached = "offline (HF_HUB_OFFLINE): models by hub id come from the cache only"
    text = cached if is_offline() else "models may be fetched"
    yield Finding(name="hub", status="ok", found=f"{text}; cache {constants.HF_HUB_CACHE}")


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    look_at_python, look_at_speed, look_at_devices, look_at_codecs, look_at_models, look_at_disk, look_at_hub,
)  # fmt: skip


def doctor(json: JsonOption = False) -> None:
    """Check this machine: versions, speed, devices, codecs, shipped models, disk and hub, a line each.

    Example: vidgen doctor
    """
    findings = [finding for look in LOOKS for finding in look()]
    if json:
        print_json({"findings": [asdict(finding) for finding in findings]})
        return
    for finding in findings:
        advice = f" -> {finding.advice}" if finding.advice else ""
        print(f"{finding.status:4}  {finding.name:9}  {finding.found}{advice}")


if __name__ == "__main__":
    run_verb("doctor", doctor)
