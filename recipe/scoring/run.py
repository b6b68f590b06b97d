"""Score reviews into a stream, a file or a folder of parts."""

import time
from pathlib import Path

from recipe.files.keys import Keys
from recipe.files.lock import holding
from recipe.files.readers import STANDARD_STREAM
from recipe.scoring.folder import FolderJob
from recipe.scoring.job import Job, Model, require_room
from recipe.scoring.journal import Journal
from recipe.scoring.request import Request
from recipe.scoring.summary import Summary


def score(request: Request) -> Summary:
    """Score files or a stream of reviews, in this process.

    Raises:
        UsageError: A run, variant, input or column is missing, the output cannot be written or is being scored, a row
            is malformed, or the input changes meanwhile.
        Interrupted: Ctrl-C or SIGTERM came while a file was written; says how to resume.
        CheckFailed: Not every row was scored once.
    """
    began = time.perf_counter()
    # Looked at before there is a lock, which needs a folder, and again once no one else can write there.
    request.require_files()
    if request.output == STANDARD_STREAM:
        summary = Job(request, Model.load(request)).to_stream()
    elif request.is_folder:
        with holding(Path(request.output) / ".lock", f"{request.output} is being scored", "--output"):
            summary = FolderJob(request).score()
    else:
        journal = Journal(Path(request.output))
        with journal.hold():
            summary = _score_file(request, journal)
    summary.seconds = time.perf_counter() - began
    return summary


def _score_file(request: Request, journal: Journal) -> Summary:
    journal.remove_if_published()
    request.require_files()
    model, keys = Model.load(request), Keys(request.skip_scored) if request.skip_scored else None
    scored = keys.learn(journal.output, request.formats()[1]) if keys and journal.output.exists() else None
    job = Job(request, model, keys)
    if scored:
        job.require_added_to(scored)
    if not request.overwrite:
        journal.require_same(job.manifest)
    if job.renamed:
        print(job.renamed)
    if scored and not job.reviews.rows:
        journal.remove()
        summary = Summary(str(journal.output))
    else:
        require_room(journal.output, sum(job.needed()) - journal.size())
        summary = job.to_file(journal)
    summary.left_alone = keys.left_alone if keys else 0
    return summary
