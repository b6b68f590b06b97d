"""The folder of a run, and what its JSON files hold."""

from recipe.run_folder.certificate import Certificate, VariantCertificate
from recipe.run_folder.folder import VARIANT_FILES, RunFolder, versions
from recipe.run_folder.record import BestEpoch, Epoch, Refit, RunRecord, SeedFigures, Validation, without_folder

__all__ = [
    "VARIANT_FILES",
    "BestEpoch",
    "Certificate",
    "Epoch",
    "Refit",
    "RunFolder",
    "RunRecord",
    "SeedFigures",
    "Validation",
    "VariantCertificate",
    "versions",
    "without_folder",
]
