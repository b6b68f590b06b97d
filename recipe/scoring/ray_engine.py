"""Score many files on a Ray cluster: a task for each, which writes the part that one machine alone would write."""

import functools
import logging
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from recipe.errors import CheckFailed, Interrupted, UsageError, require_extra
from recipe.files.joined import require_same_columns
from recipe.files.lock import holding
from recipe.files.readers import STANDARD_STREAM, ParquetReviewFile, TextReviewFile
from recipe.machine import usable_cores
from recipe.scoring.job import Job, Model, open_file, require_room
from recipe.scoring.journal import Journal
from recipe.scoring.parts import LocalStorage, PartFolder, changed, errors_name, part_names
from recipe.scoring.progress import LogLines, show_progress
from recipe.scoring.remote import RemoteStorage, find_files, identity, is_local, local_copy, refusals, size, storage_at
from recipe.scoring.request import Request
from recipe.scoring.summary import Summary

# Where this package is: workers that have the folder too run the same code, installed or not.
ROOT = str(Path(__file__).resolve().parents[2])
# Nothing large passes between the processes, and Ray would reserve a third of the memory; it takes no less than 75 MiB.
OBJECT_STORE_BYTES = 80 * 2**20
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5
# Rows that a task counts before it tells.
TOLD_ROWS = 256


def score_on_ray(request: Request) -> Summary:
    """Score each input into a part of its own, on the cluster that RAY_ADDRESS names, or else on this machine.

    The folder, its parts and their errors files are those of `recipe.scoring.score`. Inputs and output may be anything
    that fsspec opens. Paths, and the run's folder, must be the same on every machine.

    Raises:
        UsageError: As in `score`; or Ray is not installed, its cluster cannot be reached, or one of its machines has
            another run or another version.
        Interrupted: Ctrl-C or SIGTERM came; says how to resume.
        CheckFailed: Not every row was scored once, or the worker of a file died again and again.
    """
    began = time.perf_counter()
    require_extra("ray", "ray")
    request = _absolute(request)
    storage = storage_at(request.output)
    with _hold(storage), _resumable(storage):
        summary = _RayJob(request, storage).score()
    summary.seconds = time.perf_counter() - began
    return summary


def _absolute(request: Request) -> Request:
    """Return the request with the paths and addresses of all files, which other machines understand too."""
    inputs = [request.input] if isinstance(request.input, str) else request.input
    for flag in ("limit", "skip_scored"):
        if getattr(request, flag):
            raise UsageError(f"--{flag} does not go with --engine ray, which scores each file by itself")
    if STANDARD_STREAM in (*inputs, request.output):
        raise UsageError("--engine ray reads and writes files, not standard input or output")
    if not request.is_folder:
        raise UsageError(f"--engine ray writes a folder of parts: give --output a folder, not {request.output}")
    storage = storage_at(request.output)
    output = storage.path.absolute() if isinstance(storage, LocalStorage) else storage
    run = Path(request.run).expanduser().absolute()
    found = replace(request, run=run, input=find_files(inputs), output=f"{output}/")
    if isinstance(storage, LocalStorage) and all(map(is_local, found.input)):
        found.require_files()
    return found


def _hold(storage: LocalStorage | RemoteStorage) -> AbstractContextManager[None]:
    """Keep other launches from a folder on this machine; elsewhere there are no locks."""
    if isinstance(storage, RemoteStorage):
        return nullcontext()
    return holding(storage.path / ".lock", f"{storage} is being scored", "--output")


@contextmanager
def _resumable(storage: LocalStorage | RemoteStorage) -> Iterator[None]:
    """Turn an early end into an error that says how to resume."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        raise Interrupted(f"stopped; {storage} keeps what is done: the same command goes on from it", number) from error


class _RayJob:
    """The parts that a folder lacks, whose model and settings fit.

    Attributes:
        parts: The input of each part.
        settings: Everything the parts' bytes depend on beside their inputs.
        first: The first input, whose columns all others must have.
        whole: The record of each part that is there and stays as it is.
        outdated: Parts of inputs that have changed, which are to be overwritten.
    """

    def __init__(self, request: Request, storage: LocalStorage | RemoteStorage) -> None:
        """Compare the folder with the request, and look at the first input."""
        self.request, self.storage = request, storage
        self.parts = part_names(request.inputs, request.output_format)
        model = Model.load(request)
        self.settings, self.folder = model.settings, PartFolder(storage, self.parts)
        self.first = _first_file(request, model.text_columns)
        with refusals(str(storage)):
            if not request.overwrite:
                self.folder.require_same(self.settings)
            there = self.folder.whole(self.settings)
        self.whole = {part: record for part, record in there.items() if self._stays(part, record)}
        self.outdated = [part for part in there if part not in self.whole]

    def score(self) -> Summary:
        """Score the parts that are missing."""
        with refusals(str(self.storage)):
            self.folder.begin(self.settings)
            for part in self.outdated:
                # Beside its new record the old part would be taken for the new one.
                self.storage.remove(part)
        summary = Summary(f"{self.storage} ({len(self.parts):,} parts)")
        for part, record in self.whole.items():
            if isinstance(self.storage, LocalStorage):
                # A kill may have left it behind its part.
                Journal(self.storage.path / part).remove()
            summary.add_counts(record)
            summary.rows_before += record["rows"]
        if missing := [part for part in self.parts if part not in self.whole]:
            if isinstance(self.storage, LocalStorage) and not self.request.overwrite:
                # A worker that takes the place of a killed one would count what that one has done.
                kept = [Journal(self.storage.path / part).records() for part in missing]
                summary.rows_before += sum(record.rows for records in kept for record in records)
            with _cluster() as ray, show_progress(0) as progress:
                for found in self._scored(ray, missing, progress):
                    summary.add_counts(found.counts)
        return summary

    def _stays(self, part: str, record: dict[str, Any]) -> bool:
        return self.folder.is_of(part, record, identity(self.parts[part]), self.request.overwrite)

    def _scored(self, ray: Any, missing: list[str], progress: LogLines | tqdm) -> Iterator[Summary]:
        """Yield the totals of each missing part, in the order in which the cluster finishes them."""
        cores = _cores_each(ray, len(missing), self.request.threads)
        settings = {name: self.settings[name] for name in ("variant", "provider")}
        # Of the inputs, a task needs its own one and their common format.
        threads = self.request.threads or cores
        request = replace(self.request, input=self.request.inputs[:1], threads=threads, **settings)
        counter = ray.remote(num_cpus=0)(_Counter).remote()
        task = ray.remote(num_cpus=cores, num_gpus=int(settings["provider"] == "cuda"))(_score_part)
        common = ray.put(_Common(pickle.dumps(request), self.settings, self.storage, self.first, counter))
        pending = {task.remote(common, self.parts[part], part): part for part in missing}
        sizes, counted, said = {part: size(self.parts[part]) for part in missing}, 0, False
        while pending:
            ready, _ = ray.wait(list(pending), timeout=POLL_SECONDS)
            with suppress(ray.exceptions.RayActorError):
                scored, begun = ray.get(counter.state.remote())
                if expected := _expected_rows(begun, sizes):
                    # Rows that a killed worker had told of are told twice.
                    progress.total = max(expected, scored)
                progress.update(scored - counted)
                counted = scored
            for task_of_part in ready:
                found, renamed = self._result(ray, task_of_part, pending.pop(task_of_part))
                if renamed and not said:
                    print(renamed)
                    said = True
                yield found

    def _result(self, ray: Any, task_of_part: Any, part: str) -> tuple[Summary, str]:
        try:
            found = ray.get(task_of_part)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckFailed(f"{self.parts[part]} was not scored, its worker died: {reason}") from error
        if isinstance(found, Exception):
            raise found
        return found


def _first_file(request: Request, text_columns: list[str]) -> TextReviewFile | ParquetReviewFile:
    """Return the first input, after reading its columns."""
    with local_copy(request.inputs[0]) as copy:
        file = open_file(request, str(copy), text_columns)
        file.look_ahead(1)
        file.require_columns()
    file.path = request.inputs[0]
    if isinstance(file, TextReviewFile):
        # An open file cannot be sent.
        file.records_ahead = None
    return file


@contextmanager
def _cluster() -> Iterator[Any]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here until the block ends; return Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    address, earlier = os.environ.get("RAY_ADDRESS"), signal.getsignal(signal.SIGTERM)
    where: dict[str, Any] = {"address": "local", "num_cpus": usable_cores(), "include_dashboard": False}
    where["object_store_memory"] = OBJECT_STORE_BYTES
    if address:
        _require_reachable(address)
        where = {"address": address}
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    environment = {"env_vars": {"PYTHONPATH": path}}
    try:
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
        except Exception as error:
            # A machine that is too busy raises a plain one.
            place = f"at RAY_ADDRESS={address}" if address else "on this machine"
            raise UsageError(f"no Ray cluster {place}: {str(error).splitlines()[0]}") from error
        # Ray's own would end this process with another exit code.
        signal.signal(signal.SIGTERM, earlier)
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raise `UsageError` if nothing listens at an address; Ray would try for more than ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"no Ray cluster at RAY_ADDRESS={address}: {error.strerror or error}; unset it to score on this machine"
        ) from error


def _cores_each(ray: Any, parts: int, threads: int | None) -> int:
    """Return the cores of each task, no more than a machine has: one where there are parts for all, else a share."""
    largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return max(1, int(min(threads or ray.cluster_resources().get("CPU", 0) // parts, largest)))


def _expected_rows(begun: dict[str, int], sizes: dict[str, int]) -> int:
    """Return how many rows there are to score, 0 if nothing tells.

    Args:
        begun: The rows of each part that was begun: the rows of a file are known when its turn comes.
        sizes: The bytes of each part's input; rows of the others are taken to be as long.
    """
    seen = sum(sizes[part] for part in begun)
    return round(sum(begun.values()) * sum(sizes.values()) / seen) if seen else 0


class _Counter:
    """Counts the rows of all tasks, and those that they have to score."""

    def __init__(self) -> None:
        self.rows, self.begun = 0, dict[str, int]()

    def begin(self, part: str, rows: int) -> None:
        # Not again by a worker that takes the place of a killed one.
        self.begun.setdefault(part, rows)

    def add(self, rows: int) -> None:
        self.rows += rows

    def state(self) -> tuple[int, dict[str, int]]:
        return self.rows, self.begun


class _ToldRows(LogLines):
    """Counts the rows of a task, and tells the counter of all tasks now and then."""

    def __init__(self, counter: Any) -> None:
        super().__init__(0, 0)
        self.counter, self.told = counter, 0

    def update(self, rows: int) -> None:
        with self.lock:
            self.done += rows
            if self.done - self.told >= TOLD_ROWS:
                self.tell()

    def tell(self) -> None:
        self.counter.add.remote(self.done - self.told)
        self.told = self.done


@dataclass
class _Common:
    """What all tasks have in common; the request is pickled, so that a process knows the one whose model it has."""

    request: bytes
    settings: dict[str, Any]
    storage: LocalStorage | RemoteStorage
    first: TextReviewFile | ParquetReviewFile
    counter: Any


def _score_part(common: _Common, source: str, part: str) -> tuple[Summary, str] | UsageError | CheckFailed:
    """Score a part in a worker; return its totals and what to say of the columns' names, or the error."""
    try:
        request, model = _loaded(common.request)
        if changes := changed(common.settings, model.settings):
            host = socket.gethostname()
            raise UsageError(f"on {host} {', '.join(changes)}: machines must have the same run and versions")
        with local_copy(source) as copy, _place(common.storage) as place:
            job = Job(replace(request, input=[str(copy)], output=str(place / part)), model)
            require_same_columns(job.reviews.files[0], common.first)
            return _score(job, source, place, common), job.renamed.replace(str(copy), source)
    except (UsageError, CheckFailed) as error:
        return error


@functools.cache
def _loaded(pickled: bytes) -> tuple[Request, Model]:
    """Return the request and its model, loaded once in the life of a process."""
    request = pickle.loads(pickled)
    return request, Model.load(request)


@contextmanager
def _place(storage: LocalStorage | RemoteStorage) -> Iterator[Path]:
    """Return the folder of this machine in which a part is written."""
    if isinstance(storage, LocalStorage):
        yield storage.path
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def _score(job: Job, source: str, place: Path, common: _Common) -> Summary:
    """Score a part, and send it to the folder if that is elsewhere."""
    target, progress = Path(job.request.output), _ToldRows(common.counter)
    errors, storage = errors_name(target.name), common.storage
    journal = Journal(target, errors, place)
    journal.remove_if_published()
    if not job.request.overwrite:
        journal.require_same(job.manifest)
    require_room(target, sum(job.needed()) - journal.size())
    common.counter.begin.remote(target.name, job.reviews.rows - sum(record.read for record in job.done(journal)))
    input_is = job.manifest["input"] if is_local(source) else identity(source)
    folder = PartFolder(storage, [target.name])
    found = job.to_file(journal, progress, lambda summary: folder.record(target.name, input_is, summary.counts))
    progress.tell()
    if isinstance(storage, RemoteStorage):
        with refusals(str(storage)):
            # The part comes last: where it stands, everything is done.
            storage.put(place / errors) if (place / errors).exists() else storage.remove(errors)
            storage.put(target)
    return found
