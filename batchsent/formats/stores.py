"""The stores whose objects a URL may name: what is known of each, in one table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Store:
    """A store of objects, which fsspec reads."""

    package: str  # that reads it
    access: str  # what a user without access does
    public: str = ""  # who reads what is public, said after `access`
    # where no output is written to it: why, and what to do
    read_only: tuple[str, str] | None = None


# By the scheme of its URLs.
STORES = {
    "hf": Store(
        "huggingface_hub",
        access="log in with: hf auth login, or set HF_TOKEN",
        read_only=(
            "a file of the Hub is a commit, which is not made here",
            "write a file, and upload it: hf upload OWNER/NAME FILE",
        ),
    ),
    "s3": Store(
        "s3fs",
        access="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        public="; for a public bucket FSSPEC_S3_ANON=true",
    ),
    "gs": Store(
        "gcsfs",
        access="log in with: gcloud auth application-default login, or set "
        "GOOGLE_APPLICATION_CREDENTIALS",
        public="; for a public bucket FSSPEC_GS_TOKEN=anon",
    ),
    "abfs": Store(
        "adlfs",
        access="set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or "
        "AZURE_STORAGE_CONNECTION_STRING",
    ),
}
# Schemes of those that outputs are written to.
WRITTEN = tuple(scheme for scheme, store in STORES.items() if store.read_only is None)
