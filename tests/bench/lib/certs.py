# SPDX-License-Identifier: Apache-2.0
"""SPIFFE certificates for the peers, made with the openssl command."""
import os

from e2e.lib.shell import run

CA_SUBJECT = "/O=weft-bench/CN=bench root"


class Authority:
    """A root and the certificates that it signs: ECDSA P-256, one URI SAN each, as Istio's are."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.root, self.key = self.path("root.pem"), self.path("root.key")
        self._key(self.key)
        run("openssl", "req", "-x509", "-new", "-key", self.key, "-subj", CA_SUBJECT, "-days", "2",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign", "-out", self.root)

    def path(self, name):
        return os.path.join(self.directory, name)

    @staticmethod
    def _key(path):
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)

    def issue(self, name, spiffe):
        """Returns (certificate path, key path)."""
        key, request, certificate, extensions = (self.path(f"{name}.{kind}") for kind in ("key", "csr", "pem", "ext"))
        self._key(key)
        run("openssl", "req", "-new", "-key", key, "-subj", "/O=weft-bench", "-out", request)
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=critical,URI:{spiffe}\nkeyUsage=critical,digitalSignature\n"
                       "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n")
        run("openssl", "x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.key, "-CAcreateserial",
            "-days", "1", "-extfile", extensions, "-out", certificate)
        return certificate, key
