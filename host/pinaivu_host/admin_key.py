"""The admin key: a secret in a file, which the host compares with and the operator's commands send."""

from typing import Final

from pinaivu_host.flag_file import read_flag_file
from pinaivu_shared.errors import CallerError

CHARACTERS_MIN: Final = 16


def read_admin_key(path: str) -> str:
    """The key in the file of --admin-key-file; CallerError for one that could not be sent, or could be guessed."""
    secret = read_flag_file(path, "admin-key-file").decode("utf-8", "replace").strip()
    if len(secret) < CHARACTERS_MIN:
        raise CallerError(f"--admin-key-file {path}: a secret of at least {CHARACTERS_MIN} characters is expected")
    if not secret.isascii() or not secret.isprintable():
        raise CallerError(
            f"--admin-key-file {path}: a secret of printable ASCII is expected, since a header carries it"
        )
    return secret
