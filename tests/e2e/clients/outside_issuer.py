"""An OpenID Connect issuer with real keys, and what a bastion makes of its tokens.

Usage: outside_issuer.py ISSUER_PORT BASTION_URL HOST_PATH
Signs by hand with `cryptography`, because libraries refuse to make what a forger makes. Prints one JSON object: for each
token that was tried the status, the ARM error code and the client's name as far as an error tells it.
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

PORT, BASTION, HOST = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ISSUER = f"http://127.0.0.1:{PORT}/tenant/v2.0"


def b64(data):
    if not isinstance(data, bytes):
        data = json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Rsa:
    def __init__(self, kid):
        self.kid, self.alg, self.key = kid, "RS256", rsa.generate_private_key(65537, 2048)
        public = self.key.public_key().public_numbers()
        self.jwk = {"kty": "RSA", "use": "sig", "kid": kid, "alg": "RS256", "n": number(public.n), "e": number(public.e)}

    def sign(self, data):
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


class Ec:
    def __init__(self, kid):
        self.kid, self.alg, self.key = kid, "ES256", ec.generate_private_key(ec.SECP256R1())
        public = self.key.public_key().public_numbers()
        x, y = (b64(part.to_bytes(32, "big")) for part in (public.x, public.y))
        self.jwk = {"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y}

    def sign(self, data):
        r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Secret:
    def __init__(self, secret):
        self.alg, self.secret = "HS256", secret

    def sign(self, data):
        return hmac.new(self.secret, data, hashlib.sha256).digest()


published, fetches, strangers = [], {"keys": 0, "discovery": 0}, []


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/tenant/v2.0/.well-known/openid-configuration":
            fetches["discovery"] += 1
            body = {"issuer": ISSUER, "jwks_uri": f"http://127.0.0.1:{PORT}/tenant/keys", "other": ["x"]}
        elif self.path == "/tenant/keys":
            fetches["keys"] += 1
            body = {"keys": published}
        else:
            strangers.append(self.path)
            self.send_error(404)
            return
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def token(key, header=None, **changed):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "api://ravelin", "iat": now, "nbf": now, "exp": now + 600, "oid": "o-1",
              "upn": "alice@example.org"}
    claims.update(changed)
    claims = {name: value for name, value in claims.items() if value is not None}
    head = {"typ": "JWT", "alg": key.alg, "kid": getattr(key, "kid", "k1")}
    head.update(header or {})
    signed = f"{b64(head)}.{b64(claims)}"
    return f"{signed}.{b64(key.sign(signed.encode()))}"


def ask(bearer, method="POST", path="/getActiveSessions", body=b""):
    request = urllib.request.Request(f"{BASTION}{HOST}{path}?api-version=2024-05-01", data=body, method=method)
    request.add_header("Authorization", f"Bearer {bearer}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return [answer.status, None, None]
    except urllib.error.HTTPError as error:
        said = json.loads(error.read())["error"]
        named = said["message"].split("'")
        return [error.code, said["code"], named[1] if "The client" in said["message"] else None]


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", PORT), Issuer).serve_forever, daemon=True).start()
first, second, third = Rsa("k1"), Ec("k2"), Rsa("k3")
published[:] = [{"kty": "unheard-of", "kid": "odd"}, first.jwk, second.jwk]
now, out = int(time.time()), {}
good = token(first)
head, payload, signature = good.split(".")
pem = first.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
der = first.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
tags = json.dumps({"tags": {"by": "issuer"}}).encode()

out["rs256"] = ask(good)
out["es256"] = ask(token(second))
out["one audience of several"] = ask(token(first, aud=["x", "api://ravelin"]))
# Who it is, by what they may do: an operator may change tags, and the other is named in the refusal.
out["the operator"] = ask(good, "PATCH", "", tags)
out["the other"] = ask(token(first, upn="bob@example.org"), "PATCH", "", tags)

for what, bearer in {
    "alg none": f"{b64({'alg': 'none', 'kid': 'k1'})}.{payload}.",
    "alg none, signed": f"{b64({'alg': 'none', 'kid': 'k1'})}.{payload}.{signature}",
    "alg left out": f"{b64({'kid': 'k1'})}.{payload}.{signature}",
    "no signature": f"{head}.{payload}.",
    "hmac with the public key, pem": token(Secret(pem)),
    "hmac with the public key, der": token(Secret(der)),
    "hmac with the public key, jwk": token(Secret(json.dumps(first.jwk).encode())),
    "hmac with the modulus": token(Secret(base64.urlsafe_b64decode(first.jwk["n"] + "=="))),
    "another's key under a known name": token(Rsa("k1")),
    "an unknown key": token(third),
    "its own key in the header": token(third, {"jwk": third.jwk}),
    "its own keys' address": token(third, {"jku": f"http://127.0.0.1:{PORT}/evil/keys", "x5u": f"http://127.0.0.1:{PORT}/evil/x5u"}),
    "a key's name that is a path": token(third, {"kid": "../../../dev/null"}),
    "one kind of key for another": token(first, {"kid": "k2"}),
    "claims changed": f"{head}.{b64({**json.loads(base64.urlsafe_b64decode(payload + '==')), 'upn': 'bob@example.org'})}.{signature}",
    "critical": token(first, {"crit": ["exp"]}),
    "another issuer": token(first, iss="http://127.0.0.1:1/tenant/v2.0"),
    "the issuer's name and more": token(first, iss=ISSUER + "/"),
    "no issuer": token(first, iss=None),
    "another audience": token(first, aud="https://graph.microsoft.com"),
    "no audience": token(first, aud=None),
    "expired": token(first, exp=now - 120),
    "no expiry": token(first, exp=None),
    "not yet valid": token(first, nbf=now + 300),
    "nobody's claim": token(first, upn="mallory@example.org"),
    "a principal's own name": token(first, upn="alice"),
    "no claim": token(first, upn=None),
    "a principal who is gone": token(first, upn="carol@example.org"),
    "a list for a claim": token(first, upn=["alice@example.org"]),
}.items():
    out[what] = ask(bearer)
out["fetches until then"] = dict(fetches)
out["asked elsewhere"] = strangers

# The key is changed: for a time both are published, then only the new one. It is looked for twice a minute at most.
published[:] = [first.jwk, third.jwk]
begun = time.time()
while ask(token(third))[0] != 200 and time.time() - begun < 60:
    time.sleep(0.5)
out["the new key"] = ask(token(third))
out["the old key, still published"] = ask(good)
out["fetches in the end"] = dict(fetches)
out["still good"] = ask(good)
print(json.dumps(out))
