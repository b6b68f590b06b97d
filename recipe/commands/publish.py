"""Send what is certified of a run to the Hugging Face Hub, and nothing else.

    python scripts/publish.py --run runs/mine --repo_id owner/name --dry_run
    python scripts/publish.py --run runs/mine --repo_id owner/name --private
    python scripts/publish.py --run runs/mine --repo_id owner/name --overwrite

Sends, in one commit, the weights, the tokenizer, onnx/ with the variants that are certified, the model card, the
report and its pictures. Checkpoints, advice, the report's answers and mistakes, and any other file stay here, and so do
the texts of reviews and the folders of this machine, which are taken out of certificate, report and run.json. The
repository is made if there is none; one that holds files already needs --overwrite, which also removes what an earlier
publication has sent and this one does not. Needs a token that may write, from `hf auth login` or in HF_TOKEN.

Prints each file with its size, and the commit's address. Exit codes: 0 done, 2 a mistake in what was asked, a run that
is not evaluated or is damaged, or a Hub that refuses.
"""

from pathlib import Path

from recipe.command_line import RunFolderParser
from recipe.run_folder import RunFolder


def parser() -> RunFolderParser:
    """Return the command line's parser."""
    parser = RunFolderParser(__doc__)
    parser.add_argument("--repo_id", required=True, metavar="OWNER/NAME", help="the model's repository on the Hub")
    parser.add_argument("--private", action="store_true", help="for you alone, if the repository is made now")
    parser.add_argument("--overwrite", action="store_true", help="take the place of the repository's earlier files")
    parser.add_argument("--dry_run", action="store_true", help="list files and sizes, and send nothing")
    return parser


def main(argv: list[str]) -> None:
    """Publish the run that `argv` names."""
    flags = parser().parse_known_flags(argv)
    folder = RunFolder(flags.run)
    folder.require_onnx()
    from recipe import hub
    from recipe.publishing.contents import contents, is_published

    hub.require_name(flags.repo_id)
    if not flags.dry_run:
        hub.require_token()
    with folder.hold("--run"):
        files = contents(folder, flags.repo_id)
        sent = None
        if not flags.dry_run:
            message = f"Publish {folder.path.resolve().name}"
            sent = hub.send(
                flags.repo_id, files, message, is_published, private=flags.private, overwrite=flags.overwrite
            )
    sizes = {path: file.stat().st_size if isinstance(file, Path) else len(file) for path, file in files.items()}
    for path, size in sizes.items():
        print(f"{size:>13,}  {path}")
    print(f"{sum(sizes.values()):>13,}  bytes in {len(files)} files")
    print(f"Published: {sent}" if sent else "Nothing was sent")
