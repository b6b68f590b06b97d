"""Fine-tune a classifier on labelled reviews.

    accelerate launch scripts/train.py
    accelerate launch scripts/train.py --config amazon_polarity
    accelerate launch scripts/train.py --train_file mine.csv --test_file held_out.csv --output_dir runs/mine
    python scripts/train.py --train_file mine.csv --inspect_data

Writes the run's folder, --output_dir (default runs/<config name>): a checkpoint per validation, the best model,
config.yaml, data.json and run.json. Exit codes: 0 done, 1 a check failed, 2 a mistake in what was asked.
"""

from recipe.machine import is_main_process


def main(argv: list[str]) -> None:
    """Train the run that `argv` asks for."""
    from recipe.arguments.parser import parse_arguments

    arguments = parse_arguments(argv, __doc__)
    from recipe.training.run import inspect_only, train

    if arguments.data.inspect_data:
        print(f"In full: {inspect_only(arguments).data}")
        return
    folder = train(arguments)
    if is_main_process():
        record = folder.read_record()
        print(f"best epoch {record.best.epoch:g}: validation F1 {record.best.f1:.4f}; {record.seconds} s of training")
        if record.refit:
            rows = f"{record.refit.rows:,} rows"
            rows += f" and {record.unlabelled['learned']:,} unlabelled reviews" if record.unlabelled else ""
            print(f"kept       a model trained again, on all {rows}; {record.refit.seconds} s of it")
        if record.seeds:
            print(record.describe_seeds())
        for note in record.validation.notes if record.validation else []:
            print(f"warning    {note}")
        print(f"Next: python scripts/export_onnx.py --run {folder}")
