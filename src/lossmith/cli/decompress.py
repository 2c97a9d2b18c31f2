"""lossmith decompress: bring back what lossmith compress made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg


@dataclass
class Args:
    """Bring back a file that lossmith compress made, with the same model."""

    file: Positional[Annotated[Path, arg(metavar="FILE")]]
    """Compressed file."""
    model: Annotated[Path, arg(metavar="MODEL")]
    """The model it was compressed with; another one is refused."""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT")] = None
    """File to write; default: FILE without .lsz."""
    json: FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of a sentence."""


def run(args: Args) -> None:
    """Decode, compare with the checksum, and only then write."""
    from lossmith.cli._write import write_whole
    from lossmith.cli.compress import bar, check_output, read_bytes
    from lossmith.errors import InputError
    from lossmith.evaluate.compress import decompress
    from lossmith.evaluate.surprise_model import open_scorer

    output = args.output or (args.file.with_suffix("") if args.file.suffix == ".lsz" else None)
    if output is None:
        raise InputError(f"-o is needed: {str(args.file)!r} does not end in .lsz, so that its name says nothing")
    check_output(output)
    data = read_bytes(args.file)
    with bar("decompress", args.json) as progress:
        restored = decompress(data, open_scorer(args.model), progress=progress)
    write_whole(output, restored)
    if args.json:
        print(json.dumps({"file": str(output), "bytes": len(restored), "compressed_bytes": len(data)}))
    else:
        print(f"{len(data):,} bytes → {output}: {len(restored):,} bytes, checksum as it was")
