"""Export a trained run to ONNX, and certify each variant on the run's own validation reviews.

    python scripts/export_onnx.py
    python scripts/export_onnx.py --run runs/mine --variants fp32
    python scripts/export_onnx.py --run runs/mine --target avx2 --max_f1_drop 0.005

Writes <run>/onnx/: model.onnx (fp32), model_quantized.onnx (int8), model_fp16.onnx (where there is a GPU), config.json
with the label names, the tokenizer, and certificate.json: how far each variant lies from PyTorch, and its F1 drop.
fp32 must give PyTorch's logits to 1e-4 and every label. The others may cost --max_f1_drop of F1, compared with the
whole 95 % interval. Where some of the interval is over it, the validation reviews are too few to tell: the variant is
undecided, and a line says how many would do. Only certified variants are written, and without fp32 none is.

Exit codes: 0 done, though a variant may be undecided; 1 a variant is worse, or none was written; 2 a mistake in the
command or in the run.
"""

from recipe.command_line import RunFolderParser
from recipe.errors import CheckFailed, UsageError
from recipe.run_folder import VARIANT_FILES, RunFolder


def parser() -> RunFolderParser:
    """Return the command line's parser."""
    parser = RunFolderParser(__doc__)
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=list(VARIANT_FILES),
        help="the variants to write (default: fp32 and int8, and fp16 where ONNX Runtime has a GPU)",
    )
    parser.add_argument(
        "--target", choices=["vnni", "avx2", "arm"], help="the kind of CPU that int8 is made for (default: this one)"
    )
    parser.add_argument(
        "--max_f1_drop", type=float, default=0.01, help="F1 that int8 and fp16 may cost (default: %(default)s)"
    )
    parser.add_files()
    return parser


def main(argv: list[str]) -> None:
    """Export the run that `argv` names."""
    flags = parser().parse_known_flags(argv)
    if not 0 <= flags.max_f1_drop <= 1:
        raise UsageError(f"--max_f1_drop {flags.max_f1_drop} is not a difference of F1, from 0 to 1")
    folder = RunFolder(flags.run)
    folder.require_finished()
    with folder.hold("--run"):
        from recipe.export.certificate import as_table, describe_rejected
        from recipe.export.variants import export

        had_decision = folder.decision.is_file()
        content = export(folder, flags.variants, flags.target, flags.max_f1_drop, RunFolderParser.files_of(flags))
    print(as_table(content))
    print(f"In full: {folder.certificate}")
    rejected = f"{describe_rejected(content)}. Written to {folder.onnx}: {' and '.join(content.variants)}"
    worse = any(found.verdict == "worse" for found in content.refused.values())
    if content.refused and not worse:
        print(rejected)
    if had_decision:
        print("The temperature and the threshold were removed with the earlier export: evaluate again")
    print(f"Next: python scripts/evaluate.py --run {folder}", flush=True)
    if worse:
        raise CheckFailed(rejected)
