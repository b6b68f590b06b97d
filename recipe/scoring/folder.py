"""Score each input into a part of its own, in one folder, with a model that is loaded once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from recipe.files.atomic import file_sha256
from recipe.files.joined import require_same_columns
from recipe.files.keys import Keys
from recipe.files.readers import SCORED_FORMATS, ParquetReviewFile, TextReviewFile, file_format
from recipe.scoring.job import Job, Model, open_file, require_room
from recipe.scoring.journal import Journal
from recipe.scoring.parts import LocalStorage, PartFolder, errors_name, part_names
from recipe.scoring.progress import LogLines, show_progress
from recipe.scoring.request import Request
from recipe.scoring.summary import Summary


class FolderJob:
    """The parts that a folder lacks, whose model, inputs and settings fit.

    Attributes:
        whole: The record of each part that is there and stays as it is.
        jobs: One for each part to score, or to add rows to.
        counts_before: What is known of a part that rows are added to.
        outdated: Parts of inputs that have changed, which are to be overwritten.
    """

    def __init__(self, request: Request) -> None:
        """Load the model, and survey the inputs of missing parts, or all of them if any may have new rows.

        Raises:
            UsageError: The folder holds something else, an input was changed, or the inputs' columns differ.
        """
        self.request, self.model, self.path = request, Model.load(request), Path(request.output)
        self.parts = part_names(request.inputs, request.output_format)
        self.folder = PartFolder(LocalStorage(self.path), self.parts)
        self.keys = Keys(request.skip_scored) if request.skip_scored else None
        if self.keys or not request.overwrite:
            self.folder.require_same(self.model.settings, adding=bool(self.keys))
        there = self.folder.whole(self.model.settings)
        scored = self._learn_keys(self.keys) if self.keys else {}
        self.whole = {} if self.keys else {part: record for part, record in there.items() if self._stays(part, record)}
        self.counts_before = there if self.keys else {}
        self.outdated = [] if self.keys else [part for part in there if part not in self.whole]
        self.jobs = {
            part: Job(replace(request, input=[source], output=str(self.path / part)), self.model, self.keys)
            for part, source in self.parts.items()
            if part not in self.whole
        }
        self._require_same_columns(scored)

    def score(self) -> Summary:
        """Score the parts."""
        journals = {part: self._journal(part) for part in self.jobs}
        for journal in journals.values():
            journal.remove_if_published()
        done = {part: job.done(journals[part]) for part, job in self.jobs.items()}
        self._require_room(journals)
        if not self.request.overwrite:
            for part, job in self.jobs.items():
                journals[part].require_same(job.manifest)
        # Once: a folder may have thousands of parts.
        if renamed := next((job.renamed for job in self.jobs.values() if job.renamed), ""):
            print(renamed)
        self.folder.begin(self.model.settings)
        for part in self.outdated:
            # Beside its new record the old part would be taken for the new one.
            self.folder.storage.remove(part)
        summary = Summary(
            f"{self.path} ({len(self.parts):,} parts)", left_alone=self.keys.left_alone if self.keys else 0
        )
        for part, record in self.whole.items():
            # A kill may have left it behind its part.
            self._journal(part).remove()
            summary.add_counts(record)
            summary.rows_before += record["rows"]
        total = sum(job.reviews.rows for job in self.jobs.values())
        with show_progress(total, sum(record.read for records in done.values() for record in records)) as progress:
            for part, journal in journals.items():
                found = self._score_part(part, journal, progress)
                summary.add_counts(found.counts)
                summary.rows_before += found.rows_before
        return summary

    def _score_part(self, part: str, journal: Journal, progress: LogLines) -> Summary:
        job, before = self.jobs[part], self.counts_before.get(part, {})

        def record(found: Summary) -> None:
            counts = {name: count + before.get(name, 0) for name, count in found.counts.items()}
            self.folder.record(part, job.manifest["input"], counts)

        if not self.keys:
            return job.to_file(journal, progress, record)
        if job.reviews.rows or not job.before:
            found = job.to_file(journal, progress)
        else:
            journal.remove()
            found = Summary(part)
        # A record before its time would say that the part has the new rows.
        record(found)
        return found

    def _journal(self, part: str) -> Journal:
        return Journal(self.path / part, errors_name(part), self.path)

    def _stays(self, part: str, record: dict[str, Any]) -> bool:
        return self.folder.is_of(part, record, file_sha256(Path(self.parts[part])), self.request.overwrite)

    def _learn_keys(self, keys: Keys) -> dict[str, TextReviewFile | ParquetReviewFile]:
        return {name: keys.learn(self.path / name, file_format(name, SCORED_FORMATS)) for name in self.folder.scored()}

    def _require_same_columns(self, scored: dict[str, TextReviewFile | ParquetReviewFile]) -> None:
        """Check that the inputs have the same columns, and the parts that rows are added to those that are added."""
        files = [job.reviews.files[0] for job in self.jobs.values()]
        if self.whole and files:
            first = open_file(self.request, self.parts[next(iter(self.whole))], self.model.text_columns)
            first.look_ahead(1)
            files.insert(0, first)
        for file in files[1:]:
            require_same_columns(file, files[0])
        for part, found in scored.items():
            self.jobs.get(part, next(iter(self.jobs.values()))).require_added_to(found)

    def _require_room(self, journals: dict[str, Journal]) -> None:
        needed = [job.needed() for job in self.jobs.values()]
        output = sum(output for _, output in needed) + max((windows for windows, _ in needed), default=0)
        require_room(self.path / "", output - sum(journal.size() for journal in journals.values()))
