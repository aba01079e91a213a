#!/usr/bin/env python3
"""Approves the kubelets' serving certificate requests, after checking each against the cluster's hosts.

Kubernetes signs requests of the signer kubernetes.io/kubelet-serving, but nothing in it approves them: whoever
approves must know which node may have which names and addresses
(https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/#certificate-rotation).

Why a program of our own, and in Python: nobody publishes a binary of an approver, only container images, and an
image would have to run in the cluster before the cluster's nodes have their certificates. Every Ansible host has
Python 3. This needs Python 3.9 and the OS package `python3-cryptography` (3.4 or newer), nothing else. It knows the
hosts from the inventory (a file that the role writes), so it compares with that instead of asking DNS.

It approves a request only if all of this holds:

- the API server authenticated the requester as system:node:NAME, in the groups system:nodes and
  system:authenticated, and NAME is in the file of allowed hosts;
- the request's signature is valid; its subject is exactly O=system:nodes, CN=system:node:NAME; its key is RSA of
  2048 bits or more, a NIST curve, or Ed25519;
- its only extension is subjectAltName, with at least one name; DNS names are NAME alone, addresses are among
  those allowed for NAME; no other kind of name;
- its usages are "server auth" with at most "digital signature" and "key encipherment";
- the lifetime it asks for, if any, is within the bound.

A request that comes from a known node and fails any of these is denied, with the reason: the node is either wrongly
configured or not what it says, and someone should look. A request whose requester is not a known node is left as it
is: it may be of a host that joins before this program's file names it (it is looked at again), or be meant for
another approver. Requests for other signers are not read.

One instance runs on each master against the API server beside it. All of them see each request; the first to
answer wins, and the others' conflict (409) is ignored.

What it may do in the cluster (the role binds it to the user k8s-ans:csr-approver):
  certificatesigningrequests: list, watch
  certificatesigningrequests/approval: update
  signers (kubernetes.io/kubelet-serving): approve
"""

from __future__ import annotations

import argparse
import base64
import binascii
import datetime
import http.client
import ipaddress
import json
import os
import random
import signal
import socket
import ssl
import sys
import time
import urllib.parse
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from cryptography import x509
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

SIGNER = "kubernetes.io/kubelet-serving"
PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODE_PREFIX = "system:node:"
ALLOWED_USAGES = {"digital signature", "key encipherment", "server auth"}
# DER of the object identifier of the extensionRequest attribute, 1.2.840.113549.1.9.14.
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")

CONNECT_TIMEOUT = 10.0  # seconds; also for reading an answer that is not a watch
WATCH_SECONDS = 45  # the API server ends a watch after this long
READ_SLACK = 15.0  # seconds that a watch may outlast that before it counts as dead
MAX_BODY = 64 * 1024 * 1024  # bytes of a page of a list
MAX_EVENT = 4 * 1024 * 1024  # bytes of one watch event; etcd refuses objects of more than 1.5 MiB
PAGE = 40  # requests in a page of a list: even the largest fit into MAX_BODY
MAX_REASON = 500  # characters; a reason quotes what the requester wrote
MAX_BACKOFF = 30.0  # seconds

Json = Dict[str, Any]


def log(priority: int, message: str) -> None:
    """One line to stderr with journald's priority prefix (sd-daemon(3)): 6 info, 4 warning, 3 error."""
    print("<%d>%s" % (priority, message.replace("\n", " ")), file=sys.stderr, flush=True)


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("HTTP %d: %s" % (status, message))
        self.status = status


class Refusal(Exception):
    """Why a request is denied."""


# --- The decision -----------------------------------------------------------------------------------------------


class Allowed:
    """The file of allowed hosts: {"NODE": ["ADDRESS", ...]}. Read again when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: Optional[Tuple[int, int, int]] = None
        self._nodes: Dict[str, Set[Any]] = {}
        self.generation = 0
        self.refresh()

    def refresh(self) -> bool:
        """Reads the file if it changed; True if so. A file that cannot be read leaves what was known before."""
        try:
            stat = os.stat(self._path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return False
            with open(self._path, encoding="utf-8") as file:
                nodes = json.load(file)
            self._nodes = {
                str(name): {ipaddress.ip_address(address) for address in addresses}
                for name, addresses in nodes.items()
            }
        except (OSError, ValueError, AttributeError, TypeError) as error:
            if self._stamp is None:
                raise
            log(3, "cannot read %s, keeping what was known: %s" % (self._path, error))
            return False
        self._stamp = stamp
        self.generation += 1
        log(6, "%d hosts are allowed, from %s" % (len(self._nodes), self._path))
        return True

    def addresses(self, node: str) -> Optional[Set[Any]]:
        """The addresses of the node; None if it is not known."""
        return self._nodes.get(node)


class Decision(NamedTuple):
    """What to do with a request: approve, deny, or leave it alone."""

    kind: str
    reason: str


def decide(request: Json, allowed: Allowed, max_seconds: int) -> Decision:
    """Judges a CertificateSigningRequest object. What is odd in its content leads to a denial, never to an exception."""
    spec = request.get("spec") or {}
    status = request.get("status") or {}
    if spec.get("signerName") != SIGNER:
        return Decision("ignore", "of another signer")
    conditions = status.get("conditions") or []
    if status.get("certificate") or any(item.get("type") in ("Approved", "Denied", "Failed") for item in conditions):
        return Decision("ignore", "already decided")
    username = spec.get("username") or ""
    node = username[len(NODE_PREFIX) :] if username.startswith(NODE_PREFIX) else ""
    addresses = allowed.addresses(node) if node else None
    if addresses is None:
        return Decision("wait", "the requester %r is not a known node" % username)
    try:
        _check_spec(spec, max_seconds)
        _check_request(spec.get("request"), node, addresses)
    except Refusal as refusal:
        return Decision("deny", str(refusal)[:MAX_REASON])
    except ValueError as error:
        return Decision("deny", "the request cannot be read (%s)" % type(error).__name__)
    except Exception as error:  # pylint: disable=broad-except  # one request must not stop the service
        # The fault may be ours, and a denial is final: the kubelet would ask again and again.
        return Decision("wait", "the request could not be examined (%s: %s)" % (type(error).__name__, error))
    return Decision("approve", "names, addresses, usages and requester are those of the node %s" % node)


def _check_spec(spec: Json, max_seconds: int) -> None:
    groups = set(spec.get("groups") or [])
    for group in ("system:nodes", "system:authenticated"):
        if group not in groups:
            raise Refusal("the requester is not in the group %s" % group)
    usages = set(spec.get("usages") or [])
    if "server auth" not in usages:
        raise Refusal("the usage 'server auth' is missing")
    extra = sorted(usages - ALLOWED_USAGES)
    if extra:
        raise Refusal("the usages %s are not allowed" % ", ".join(repr(usage) for usage in extra))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and not 0 < int(seconds) <= max_seconds:
        raise Refusal("expirationSeconds is %s, more than %d" % (seconds, max_seconds))


def _check_request(encoded: Any, node: str, addresses: Set[Any]) -> None:
    try:
        pem = base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Refusal("spec.request is not base64") from None
    if pem.count(b"-----BEGIN") != 1:
        raise Refusal("spec.request does not hold exactly one PEM block")
    csr = x509.load_pem_x509_csr(pem)
    if not csr.is_signature_valid:
        raise Refusal("the signature of the request is not valid")
    _check_key(csr.public_key())
    subject = [(attribute.oid, attribute.value) for attribute in csr.subject]
    wanted = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, NODE_PREFIX + node)]
    if len(subject) != len(wanted) or any(item not in subject for item in wanted):
        raise Refusal("the subject is not exactly O=system:nodes, CN=%s%s" % (NODE_PREFIX, node))
    # Parsers differ in which of two extensionRequest attributes they read: there must be one.
    if csr.public_bytes(serialization.Encoding.DER).count(EXTENSION_REQUEST) != 1:
        raise Refusal("there is not exactly one extension request")
    names = None
    for extension in csr.extensions:
        if extension.oid != ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            raise Refusal("the extension %s is not allowed" % extension.oid.dotted_string)
        names = extension.value
    if names is None or not list(names):
        raise Refusal("there is no subject alternative name")
    for name in names:
        if isinstance(name, x509.DNSName):
            if name.value != node:
                raise Refusal("the DNS name %r is not the node's" % name.value)
        elif isinstance(name, x509.IPAddress):
            if name.value not in addresses:
                raise Refusal("the address %s is not one of the node's" % name.value)
        else:
            raise Refusal("a subject alternative name of the kind %s is not allowed" % type(name).__name__)


def _check_key(key: Any) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise Refusal("the RSA key has %d bits, fewer than 2048" % key.key_size)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
            raise Refusal("keys on the curve %s are not allowed" % key.curve.name)
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise Refusal("keys of this kind are not allowed")


def decided(request: Json, decision: Decision) -> Json:
    """The request with the condition that says what was decided."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": "Approved" if decision.kind == "approve" else "Denied",
        "status": "True",
        "reason": "NodeMatchesInventory" if decision.kind == "approve" else "NodeDoesNotMatchInventory",
        "message": "kube-csr-approver: %s" % decision.reason,
        "lastUpdateTime": now,
    }
    status = dict(request.get("status") or {})
    status["conditions"] = list(status.get("conditions") or []) + [condition]
    # Items of a list carry neither of these.
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return {**request, **kind, "status": status}


# --- The API server ---------------------------------------------------------------------------------------------


class Api:
    """The few calls that are needed, each bounded in time and size. TLS files are read again for each connection."""

    def __init__(self, server: str, ca: str, cert: str, key: str) -> None:
        url = urllib.parse.urlsplit(server)
        if url.scheme != "https" or not url.hostname or url.path not in ("", "/"):
            raise ValueError("--server must look like https://127.0.0.1:6443")
        self._host, self._port = url.hostname, url.port or 443
        self._files = (ca, cert, key)

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        ca, cert, key = self._files
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A CA that is issued by another may be trusted without it: X509_V_FLAG_PARTIAL_CHAIN, unnamed before Python 3.10.
        context.verify_flags |= 0x80000
        context.load_cert_chain(cert, key)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)

    @staticmethod
    def _check(response: http.client.HTTPResponse) -> None:
        if response.status < 300:
            return
        body = response.read(MAX_EVENT)
        try:
            message = str(json.loads(body).get("message", ""))
        except (ValueError, AttributeError):
            message = response.reason
        raise ApiError(response.status, message)

    def _call(self, method: str, path: str, body: Optional[Json] = None) -> Json:
        connection = self._connect(CONNECT_TIMEOUT)
        try:
            data = None if body is None else json.dumps(body).encode()
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            self._check(response)
            text = response.read(MAX_BODY + 1)
            if len(text) > MAX_BODY:
                raise ValueError("the answer is larger than %d bytes" % MAX_BODY)
            return json.loads(text)
        finally:
            connection.close()

    def list(self) -> Tuple[List[Json], str]:
        """All requests of the signer, and the resource version to watch from."""
        items: List[Json] = []
        token = ""
        while True:
            query = {"fieldSelector": "spec.signerName=" + SIGNER, "limit": str(PAGE)}
            if token:
                query["continue"] = token
            page = self._call("GET", PATH + "?" + urllib.parse.urlencode(query))
            metadata = page.get("metadata") or {}
            items.extend(page.get("items") or [])
            token = metadata.get("continue") or ""
            if not token:
                return items, metadata.get("resourceVersion") or ""

    def watch(self, version: str) -> Iterator[Json]:
        """Events after the version, until the API server ends the watch. Raises ApiError 410 if it is too old."""
        query = {
            "fieldSelector": "spec.signerName=" + SIGNER,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        connection = self._connect(CONNECT_TIMEOUT)
        try:
            connection.connect()
            connection.sock.settimeout(WATCH_SECONDS + READ_SLACK)
            connection.request("GET", PATH + "?" + urllib.parse.urlencode(query))
            response = connection.getresponse()
            self._check(response)
            while True:
                line = response.readline(MAX_EVENT)
                if not line:
                    return
                if not line.endswith(b"\n"):
                    raise ValueError("a watch event is cut off")
                event = json.loads(line)
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    raise ApiError(int(status.get("code") or 500), str(status.get("message", "")))
                yield event
        finally:
            connection.close()

    def answer(self, request: Json) -> None:
        """Writes the approval sub-resource."""
        name = urllib.parse.quote(request["metadata"]["name"], safe="")
        self._call("PUT", "%s/%s/approval" % (PATH, name), request)


# --- The service ------------------------------------------------------------------------------------------------


def notify(message: str) -> None:
    """Tells systemd (sd_notify(3)); nothing without NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(message.encode())
    except OSError as error:
        log(4, "cannot notify systemd: %s" % error)


class Approver:
    """Lists, watches and answers, for ever."""

    def __init__(self, api: Api, allowed: Allowed, max_seconds: int) -> None:
        self._api = api
        self._allowed = allowed
        self._max_seconds = max_seconds
        self._ready = False
        self._logged: Set[str] = set()
        self._waiting: Set[str] = set()

    def run(self) -> None:
        """Never returns; every failure is logged and tried again, with a growing pause."""
        backoff = 1.0
        while True:
            started = time.monotonic()
            try:
                self.cycle()
                backoff = 1.0
            except ApiError as error:
                if error.status != 410:  # 410: the version to watch from is too old, listing again mends it
                    log(4, "the API server refused: %s" % error)
                    backoff = self._pause(backoff, started)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
                log(4, "the API server cannot be reached or understood: %s: %s" % (type(error).__name__, error))
                backoff = self._pause(backoff, started)

    @staticmethod
    def _pause(backoff: float, started: float) -> float:
        if time.monotonic() - started > MAX_BACKOFF:
            backoff = 1.0
        time.sleep(backoff * random.uniform(0.75, 1.25))
        return min(backoff * 2, MAX_BACKOFF)

    def cycle(self) -> None:
        """One list and the watches after it; returns when the list is due again."""
        self._allowed.refresh()
        generation = self._allowed.generation
        items, version = self._api.list()
        if not self._ready:
            self._ready = True
            notify("READY=1")
            log(6, "ready: %d requests seen" % len(items))
        self._waiting.clear()
        self._logged &= {item["metadata"]["uid"] for item in items}
        for item in items:
            self.handle(item)
        # Requests of unknown nodes are looked at again once the file changed, so watch no longer than one watch.
        while self._allowed.generation == generation:
            for event in self._api.watch(version):
                item = event.get("object") or {}
                version = (item.get("metadata") or {}).get("resourceVersion") or version
                if event.get("type") in ("ADDED", "MODIFIED"):
                    self._allowed.refresh()
                    self.handle(item)
                    if self._waiting and self._allowed.generation != generation:
                        return
            self._allowed.refresh()
            if self._waiting:
                return

    def handle(self, request: Json) -> None:
        """Decides one request and answers it.

        Raises what stands in the way of every answer (no connection, no permission, an overloaded server); what the
        server has against this one answer is logged and tried again with the next list.
        """
        decision = decide(request, self._allowed, self._max_seconds)
        metadata = request["metadata"]
        name, uid = metadata["name"], metadata["uid"]
        who = (request.get("spec") or {}).get("username")
        if decision.kind == "ignore":
            self._waiting.discard(uid)
            return
        if decision.kind == "wait":
            self._waiting.add(uid)
            if uid not in self._logged:
                self._logged.add(uid)
                log(4, "left %s pending: %s" % (name, decision.reason))
            return
        try:
            self._api.answer(decided(request, decision))
        except ApiError as error:
            # Another master's instance was first, or the request is gone.
            if error.status in (404, 409):
                return
            if error.status in (401, 403, 429) or error.status >= 500:
                raise
            log(3, "the API server did not take the answer to %s: %s" % (name, error))
            self._waiting.add(uid)
            return
        self._waiting.discard(uid)
        if decision.kind == "approve":
            log(6, "approved %s of %s" % (name, who))
        else:
            log(4, "denied %s of %s: %s" % (name, who, decision.reason))


def arguments(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Approves kubelet serving certificates after checking each.")
    parser.add_argument("--server", required=True, help="the API server, e.g. https://127.0.0.1:6443")
    parser.add_argument("--ca", required=True, help="CA of the API server's certificate, PEM")
    parser.add_argument("--cert", required=True, help="client certificate, PEM")
    parser.add_argument("--key", required=True, help="its key, PEM")
    parser.add_argument("--allowed", required=True, help='JSON file: {"NODE": ["ADDRESS", ...]}')
    parser.add_argument("--max-days", type=int, default=366, help="longest lifetime a kubelet may ask for")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Runs until SIGTERM or SIGINT."""
    options = arguments(argv)

    def stop(_signal: int, _frame: Any) -> None:
        notify("STOPPING=1")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        api = Api(options.server, options.ca, options.cert, options.key)
        allowed = Allowed(options.allowed)
        # Loads OpenSSL's bindings now: a broken installation has to show at the start, not at the first request.
        default_backend()
    except (ImportError, OSError, ValueError, AttributeError, TypeError) as error:
        log(3, "cannot start: %s" % error)
        return 1
    Approver(api, allowed, options.max_days * 24 * 3600).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
