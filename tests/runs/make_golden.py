"""Remake the golden logs by really running the tools: python tests/runs/make_golden.py [TOOL…].

Each tool runs in a virtual environment under /tmp with the versions pinned here; its script is
golden_tools/with_TOOL.py, which gets a folder to write into and leaves there the log and expected.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path("/tmp/lossmith-golden")
TORCH = "torch==2.13.0"
# tool: (environment, packages); a package that starts with "--no-deps " comes without what it asks for.
TOOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hf_trainer": ("hf", ("transformers==5.23.0", "accelerate==1.15.0")),
    "trl": ("hf", ("transformers==5.23.0", "accelerate==1.15.0", "trl==1.16.0")),
    "hf_trainer_old": ("hf_old", ("transformers==4.46.3", "accelerate==1.1.1", "numpy<2")),
    "lightning": ("light", ("pytorch-lightning==2.6.6",)),
    "keras": ("light", ("keras==3.15.1",)),
    "tensorboard": ("light", ("tensorboard==2.21.0",)),
    "wandb": ("light", ("wandb==0.31.0",)),
    "xgboost": ("light", ("scikit-learn==1.9.1", "--no-deps xgboost==3.2.0")),
    "lightgbm": ("light", ("scikit-learn==1.9.1", "lightgbm==4.7.0")),
    "mlflow": ("mlflow", ("mlflow==3.17.2",)),
    "trackio": ("trackio", ("trackio==0.43.0",)),
    "mmengine": ("mmengine", ("mmengine==0.10.7", "setuptools<81")),
    "litgpt": ("litgpt", ("litgpt==0.5.13", "requests==2.32.5")),
    "clearml": ("clearml", ("clearml==2.1.12",)),
}


def python_of(environment: str, packages: tuple[str, ...]) -> Path:
    """Return the Python of an environment that has torch and the packages."""
    folder = ENVIRONMENTS / environment
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        _install(python, TORCH, "numpy")  # first, so that the CPU build stays
    plain = [name for name in packages if not name.startswith("--no-deps ")]
    if plain:
        _install(python, TORCH, *plain)
    for name in set(packages) - set(plain):
        _install(python, "--no-deps", name.removeprefix("--no-deps "))
    return python


def _install(python: Path, *packages: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)


def make(tool: str) -> None:
    """Run one tool, and leave its logs under golden/."""
    environment, packages = TOOLS[tool]
    python = python_of(environment, packages)
    quiet = {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    script = HERE / "golden_tools" / f"with_{tool}.py"
    subprocess.run([python, script, HERE / "golden"], check=True, env=os.environ | quiet, cwd="/tmp")


def main() -> None:
    """Make the tools that the command line names, or all; say at the end which failed."""
    asked = sys.argv[1:] or list(TOOLS)
    unknown = set(asked) - set(TOOLS)
    if unknown:
        sys.exit(f"unknown tools {sorted(unknown)}; there are {', '.join(TOOLS)}")
    failed = []
    for tool in asked:
        try:
            make(tool)
        except subprocess.CalledProcessError as error:
            failed.append(tool)
            print(f"{tool} failed: {error}", file=sys.stderr)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
