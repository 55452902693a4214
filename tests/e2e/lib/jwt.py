# SPDX-License-Identifier: Apache-2.0
"""Keys and tokens for tests of RequestAuthentication."""
import base64
import json
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, size=None):
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Issuer:
    """alg: ES256 or RS256."""

    def __init__(self, name, alg="ES256", kid="1"):
        self.name, self.alg, self.kid = name, alg, kid
        self.key = (ec.generate_private_key(ec.SECP256R1()) if alg == "ES256"
                    else rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def jwks(self):
        public = self.key.public_key().public_numbers()
        if self.alg == "ES256":
            key = {"kty": "EC", "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32)}
        else:
            key = {"kty": "RSA", "n": number(public.n), "e": number(public.e)}
        return json.dumps({"keys": [{**key, "kid": self.kid, "alg": self.alg, "use": "sig"}]})

    def token(self, sub="ann", seconds=600, header=None, **claims):
        head = {"alg": self.alg, "kid": self.kid, "typ": "JWT", **(header or {})}
        body = {"iss": self.name, "sub": sub, "exp": int(time.time()) + seconds, "iat": int(time.time()), **claims}
        text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
        return text + "." + b64(self.sign(text.encode()))

    def sign(self, data):
        if self.alg == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
