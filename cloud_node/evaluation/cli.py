"""The command line of the evaluation."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from cloud_node.evaluation import earlier, report, rows
from cloud_node.evaluation.baselines import BASELINES
from cloud_node.evaluation.cases import SETS, read_sets
from cloud_node.evaluation.complexity import Cost, costs, subjects
from cloud_node.evaluation.grids import Grids
from cloud_node.evaluation.measure import Instruments, Records, measure
from cloud_node.evaluation.niqe import Niqe
from cloud_node.evaluation.rows import Machine, Row
from cloud_node.evaluation.summary import Summary
from cloud_node.laegan import PRESETS
from cloud_node.training.pools import DataError
from common.errors import DeviceError, LamplightError, SettingsError, SourceError
from common.text_detection import TextDetector, create_detector

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

EPILOG = f"""\
sets, by the beginning of their name:
  {", ".join(SETS)}
baselines:
  {", ".join(BASELINES)}
presets:
  {", ".join(PRESETS)}

DATA holds pools by name: receipts_sroie, plates_ro, scene_text, sice512, dicm. What is not there is left out with
a word, and so is a preset without committed weights. No picture is one that training has seen; the receipts are
darkened with a sensor and a rendering that training does not use.

OUT receives report.md (also printed), results.json with the figures of every picture, plots/ and grids/.
results.json is written after every set, so that a run that fails or is stopped keeps what it measured.

examples:
  python -m cloud_node.evaluation --data DATA --out out --limit 5
      a first look: every set and baseline, five pictures each
  python -m cloud_node.evaluation --data DATA --out out --niqe DATA/weights/niqe/niqe_pris_params.npz \\
      --zerodce DATA/weights/zerodce/Epoch99.pth --zerodcepp DATA/weights/zerodcepp/Epoch99.pth
      everything
  python -m cloud_node.evaluation --data DATA --out out --row fast=fast --row new=fast:runs/fast/fast.safetensors \\
      --sets receipts --baselines raw --repeats 0
      a training so far against the committed weights, on receipts only, nothing timed
  python -m cloud_node.evaluation --data DATA --out new --row fast=fast --baselines raw --earlier out/results.json
      new weights beside the peers that an earlier run measured
  python -m cloud_node.evaluation --data DATA --out out --onnx IAT=iat.onnx --detector east --detector-model east.pb
      another network, another detector
  python -m cloud_node.evaluation --data DATA --out out --ablation runs/ablation --sets pairs,receipts
      Table 2 from base.safetensors, no-etam.safetensors, ... in that folder
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.evaluation",
        description="Compare LAE-GAN with its peers on pictures that training never saw: the paper's tables, "
        "its complexity analysis, plots and picture grids.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the pools")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the report goes here")
    what = p.add_argument_group("what is compared")
    what.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="NAME=PRESET[:FILE]",
        help="a network of ours, with the committed weights or a file's; repeat for more (default: every preset)",
    )
    what.add_argument("--baselines", default=",".join(BASELINES), metavar="A,B", help="which (default: all)")
    what.add_argument("--zerodce", type=Path, metavar="FILE", help="the authors' weights of Zero-DCE (Epoch99.pth)")
    what.add_argument("--zerodcepp", type=Path, metavar="FILE", help="the authors' weights of Zero-DCE++")
    what.add_argument(
        "--onnx",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="any network: RGB (1, 3, H, W) float in 0..1, output alike; repeat for more",
    )
    what.add_argument(
        "--earlier",
        type=Path,
        metavar="FILE",
        help="results.json of an earlier run, whose other rows join the tables where it saw the same pictures",
    )
    what.add_argument("--ablation", type=Path, metavar="DIR", help="weights without a part each, for Table 2")
    on = p.add_argument_group("on what")
    on.add_argument("--sets", default="", metavar="A,B", help="only sets whose names begin so (default: all)")
    on.add_argument("--limit", type=int, default=0, metavar="N", help="at most N pictures a set, evenly spread")
    on.add_argument("--grid", type=int, default=3, metavar="N", help="pictures a set in the grids (default: 3)")
    how = p.add_argument_group("how")
    how.add_argument("--niqe", type=Path, metavar="FILE", help="NIQE's parameters, .npz or .mat (default: no NIQE)")
    how.add_argument("--detector", default="dbnet", metavar="NAME", help="text detector (default: dbnet)")
    how.add_argument("--detector-model", type=Path, metavar="FILE", help="model of a detector that brings none")
    how.add_argument("--repeats", type=int, default=5, metavar="N", help="timed runs; 0: no complexity (default: 5)")
    how.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: 2)")
    how.add_argument("--device", default="cpu", metavar="DEV", help="of the networks: cpu, cuda:0, mps (default: cpu)")
    how.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of the networks (default: float32)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error, which is one line; 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    p = parser()
    args = p.parse_args(arguments)
    if args.limit < 0 or args.grid < 0 or args.repeats < 0 or args.threads < 1:
        p.error("--limit, --grid and --repeats must be 0 or more, --threads 1 or more")
    try:
        return run(args, arguments)
    except LamplightError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {what}; make it readable, or leave its set out with --sets", file=sys.stderr)
        return SourceError.exit_code
    except KeyboardInterrupt:
        print("\nstopped; of this run, results.json holds the sets that were finished", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure and write the report.

    Raises:
        LamplightError: for anything in the arguments, data or weights that cannot be used.
    """
    left_out: list[str] = []

    def say(word: str) -> None:
        left_out.append(word)
        print(word, file=sys.stderr)

    torch.set_num_threads(args.threads)
    machine = Machine(_device(args.device), DTYPES[args.dtype])
    _writable(args.out)
    sets = read_sets(args.data, _names(args.sets), args.limit, say)
    compared = _rows(args, machine, say)
    before = earlier.read(args.earlier, args.detector, [row.name for row in compared]) if args.earlier else None
    shown = [*compared[:1], *before.rows, *compared[1:]] if before else compared
    detector, niqe = _detector(args), Niqe.read(args.niqe) if args.niqe else None
    if niqe is None:
        say("NIQE is left out: name its parameters with --niqe FILE")

    grids = Grids(args.grid)
    about = {
        "command": shlex.join(["python", "-m", "cloud_node.evaluation", *arguments]),
        "machine": report.describe(machine, args.threads),
        "detector": args.detector,
        "left_out": left_out,
    }
    groups = {one.name: {case.name: case.group for case in one.cases} for one in sets}

    def save(records: Records) -> None:
        report.write_figures(args.out, Summary(records, compared, groups), about)

    records = measure(sets, compared, Instruments(detector, niqe), grids.keep, save)
    if before:
        records = before.joined(records, say)
    cost = _costs(compared, machine, args.repeats, say) if args.repeats else []
    print(report.write(args.out, Summary(records, shown, groups), cost, sets, grids, about))
    return 0


def _rows(args: argparse.Namespace, machine: Machine, say: rows.Say) -> list[Row]:
    names = _names(args.baselines)
    if rows.RAW not in names:
        names = [rows.RAW, *names]  # what the others are compared with
    compared = [
        *rows.baselines(names),
        *rows.published(args.zerodce, args.zerodcepp, machine, say),
        *rows.onnx_rows(args.onnx, args.threads),
        *rows.preset_rows(args.row, machine, say),
        *rows.ablation_rows(args.ablation, machine),
    ]
    seen: set[str] = {rows.BRIGHT}
    for row in compared:
        if row.name in seen:
            raise SettingsError(f"two rows are named {row.name!r}: choose another name")
        seen.add(row.name)
    return compared


def _costs(compared: Sequence[Row], machine: Machine, repeats: int, say: rows.Say) -> list[Cost]:
    """Left out with a word where a network fails at a timed size: the pictures are measured by then."""
    try:
        return costs(subjects(compared, machine), machine, repeats)
    except (RuntimeError, LamplightError) as error:
        say(f"complexity is left out, for timing failed on {machine.device}: {(str(error).splitlines() or [''])[0]}")
        return []


def _detector(args: argparse.Namespace) -> TextDetector:
    settings = {} if args.detector_model is None else {"model": args.detector_model}
    if args.detector == "dbnet":
        settings["threads"] = args.threads
    try:
        return create_detector(args.detector, **settings)
    except TypeError:
        wanted = "needs a model: --detector-model FILE" if not args.detector_model else "takes no --detector-model"
        raise SettingsError(f"--detector {args.detector} {wanted}") from None


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / "report.md"
        probe.touch()
    except OSError as error:
        raise SettingsError(f"--out {folder} cannot be written to: {error.strerror or error}") from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
