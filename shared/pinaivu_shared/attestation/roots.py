"""Trust roots: the pinned root of AWS Nitro Enclaves, and roots that a trust file names for other platforms.

A verifier never takes a root from a document. For the platform `nitro` the pinned root below is the only one.
"""

import functools
from typing import Final

from cryptography import x509

from pinaivu_shared.errors import UnreadableError

AWS_NITRO_ROOT_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"  # of the DER

AWS_NITRO_ROOT_PEM: Final = """\
-----BEGIN CERTIFICATE-----
MIICETCCAZagAwIBAgIRAPkxdWgbkK/hHUbMtOTn+FYwCgYIKoZIzj0EAwMwSTEL
MAkGA1UEBhMCVVMxDzANBgNVBAoMBkFtYXpvbjEMMAoGA1UECwwDQVdTMRswGQYD
VQQDDBJhd3Mubml0cm8tZW5jbGF2ZXMwHhcNMTkxMDI4MTMyODA1WhcNNDkxMDI4
MTQyODA1WjBJMQswCQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQL
DANBV1MxGzAZBgNVBAMMEmF3cy5uaXRyby1lbmNsYXZlczB2MBAGByqGSM49AgEG
BSuBBAAiA2IABPwCVOumCMHzaHDimtqQvkY4MpJzbolL//Zy2YlES1BR5TSksfbb
48C8WBoyt7F2Bw7eEtaaP+ohG2bnUs990d0JX28TcPQXCEPZ3BABIeTPYwEoCWZE
h8l5YoQwTcU/9KNCMEAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUkCW1DdkF
R+eWw5b6cp3PmanfS5YwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49BAMDA2kAMGYC
MQCjfy+Rocm9Xue4YnwWmNJVA44fA0P5W2OpYow9OYCVRaEevL8uO1XYru5xtMPW
rfMCMQCi85sWBbJwKKXdS6BptQFuZbT73o/gBh1qUxl/nNr12UO8Yfwr6wPLb+6N
IwLz3/Y=
-----END CERTIFICATE-----
"""
"""Root G1 of the commercial partition, 2019-10-28 to 2049-10-28, from AWS_NitroEnclaves_Root-G1.zip."""

_PEM_HEAD: Final = "-----BEGIN CERTIFICATE-----"


@functools.cache
def aws_nitro_root() -> x509.Certificate:
    """The root that every genuine attestation document of AWS's commercial partition hangs under."""
    return load_root(AWS_NITRO_ROOT_PEM)


def load_root(pem: str) -> x509.Certificate:
    """Read the one certificate of a PEM text, as a trust file's `root` holds it.

    Raises UnreadableError: a root is the verifier's own input and no evidence. Whether it can be trusted is for
    whoever wrote the trust file; whether it is P-384 with SHA-384 is checked with each chain.
    """
    if pem.count(_PEM_HEAD) != 1:
        raise UnreadableError("trust root: expected exactly one PEM certificate")
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except Exception as error:  # border: pyca raises ValueError, InvalidVersion and its own warnings here
        raise UnreadableError(f"trust root: {error}") from error
