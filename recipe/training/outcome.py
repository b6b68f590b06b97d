"""What a training reached on the validation rows, beside the majority label and TF-IDF, and what to try next."""

import math
from typing import cast

import numpy as np
from datasets import Dataset
from scipy.stats import binomtest

from recipe.arguments.schedule import FEW_STEPS, SMALL_BATCH, steps_per_epoch
from recipe.data.tokens import flat, texts_of
from recipe.metrics.scores import figures_by_label, label_notes, score_labels
from recipe.metrics.significance import SIGNIFICANCE, mcnemar
from recipe.model.baseline import fit_baseline, predict_probabilities
from recipe.model.pretrained import readable_tokens
from recipe.run_folder import Validation
from recipe.training.job import TrainingJob

# Enough for a baseline that is hard to beat, and fitted in seconds.
BASELINE_ROWS = 10_000
# The rates that BERT's authors chose from (Devlin et al., 2019).
LOW_RATE, HIGH_RATE = 2e-5, 5e-5
# A share of truncated reviews, and the times that a label is more frequent than an even share, that may be the reason.
MANY_TRUNCATED = 0.2
UNEVEN = 1.5


def validation_of(job: TrainingJob) -> Validation:
    """Return what the trained model's last validation shows."""
    names, output, args = job.reviews.label_names, job.trainer.validated, job.arguments.training
    labels, predicted = np.asarray(output.label_ids), np.asarray(output.predictions).argmax(axis=-1)
    figures = score_labels(labels, predicted, len(names))
    majority = int(np.bincount(job.reviews.splits["train"].labels).argmax())
    share, baseline_f1 = float((labels == majority).mean()), baseline_f1_of(job)
    behind = []
    if not beats_one_label(labels, predicted, majority, len(names), args.class_weights == "balanced"):
        one_label = f"{names[majority]!r} for every review ({share:.4f})"
        behind.append(f"accuracy {figures['accuracy']:.4f} is no better, beyond noise, than {one_label}")
    # Two models without a mistake are as good as they can be.
    if baseline_f1 is not None and figures["f1"] < 1 and figures["f1"] <= baseline_f1:
        behind.append(f"F1 {figures['f1']:.4f} is no better than TF-IDF's {baseline_f1:.4f}")
    notes = label_notes(figures_by_label(labels, predicted, len(names)), names, "validation")
    if behind:
        notes.append(f"Validation {', and '.join(behind)}. {advice(job, share)}")
    elif notes and job.trainer.state.max_steps < FEW_STEPS:
        notes.append(advice(job, share))
    return Validation(names[majority], share, baseline_f1, notes)


def beats_one_label(
    labels: np.ndarray, predicted: np.ndarray, majority: int, classes: int, weighted: bool = False
) -> bool:
    """Return whether answers tell more than giving the majority label to every review, beyond noise.

    They do if more of them are right, by McNemar's exact test. Where other labels are rare, accuracy hardly shows it.
    Answers do also if more are right than would be by chance, given how often each label is true and how often it is
    answered (Cohen 1960; exact binomial test), and their F1 is above that of the one label.

    Args:
        labels: True labels, int64 (rows,).
        predicted: int64 (rows,).
        majority: The label with the most train rows.
        classes: Number of labels.
        weighted: The model was trained with class weights, which give up accuracy for rare labels: F1 does not count.
    """
    one_label = np.full_like(labels, majority)
    test = mcnemar(labels, {"model": predicted, "one label": one_label}, "model", "one label")
    if test.p_value < SIGNIFICANCE and test.only_first_right > test.only_second_right:
        return True
    true, answered = (np.bincount(part, minlength=classes) / len(labels) for part in (labels, predicted))
    by_chance = min(float(true @ answered), 1.0)
    right = int((predicted == labels).sum())
    if binomtest(right, len(labels), by_chance, alternative="greater").pvalue >= SIGNIFICANCE:
        return False
    f1, f1_of_one = (score_labels(labels, answers, classes)["f1"] for answers in (predicted, one_label))
    return weighted or f1 > f1_of_one


def baseline_f1_of(job: TrainingJob) -> float | None:
    """Return the validation F1 of TF-IDF with the run's class weights, fitted to a sample of up to 10,000 train rows.

    `None` where the rows do not allow one: their texts have no words, or a sample has one label.
    """
    train, validation = (job.reviews.splits[name] for name in ("train", "validation"))
    rows, classes = min(BASELINE_ROWS, len(train)), len(job.reviews.label_names)
    sample = train.take(np.random.default_rng(job.arguments.training.seed).permutation(len(train))[:rows])
    try:
        baseline = fit_baseline(flat(texts_of(sample)), sample.labels, job.arguments.training.class_weights)
    except ValueError:
        return None
    predicted = predict_probabilities(baseline, flat(texts_of(validation)), classes).argmax(axis=1)
    return score_labels(validation.labels, predicted, classes)["f1"]


def advice(job: TrainingJob, majority_share: float) -> str:
    """Return what to try after a training that reached too little."""
    args, max_length = job.arguments.training, job.arguments.data.max_length
    steps, rows = job.trainer.state.max_steps, cast(Dataset, job.trainer.train_dataset)
    uneven = args.class_weights == "none" and majority_share > UNEVEN / len(job.reviews.label_names)
    balanced = ["--class_weights balanced"] if uneven else []
    if steps < FEW_STEPS:
        return f"Too few steps ({steps}): try {' '.join([more_steps(job), *balanced])}."
    tries = []
    if not LOW_RATE <= args.learning_rate <= HIGH_RATE:
        tries.append(f"--learning_rate {LOW_RATE if args.learning_rate > HIGH_RATE else HIGH_RATE:g}")
    tries += balanced
    longer = min(2 * max_length, readable_tokens(job.model) or math.inf)
    if longer > max_length and np.mean(np.asarray(rows["tokens"][:]) > max_length) > MANY_TRUNCATED:
        tries.append(f"--max_length {longer}")
    return f"Try {' or '.join([*tries, 'more reviews'])}, and look at them with --inspect_data."


def more_steps(job: TrainingJob) -> str:
    """Return the flags that make a run's steps as many as it takes, and its batch small, which costs the least."""
    args = job.arguments.training
    if args.max_steps > 0:
        return f"--max_steps {FEW_STEPS}"
    shared = args.gradient_accumulation_steps == 1 and SMALL_BATCH % args.world_size == 0
    batch = SMALL_BATCH if shared and args.global_batch_size > SMALL_BATCH else args.global_batch_size
    epochs = math.ceil(FEW_STEPS / steps_per_epoch(len(job.reviews.splits["train"]), batch))
    smaller = f"--global_batch_size {batch} " if batch < args.global_batch_size else ""
    return f"{smaller}--num_train_epochs {epochs}"
