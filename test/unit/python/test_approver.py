"""Tests of roles/masters/files/kube-csr-approver.py: the decision, and the service against a fake API server."""

import base64
import copy
import datetime
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "masters" / "files" / "kube-csr-approver.py"
_spec = importlib.util.spec_from_file_location("kube_csr_approver", PROGRAM)
approver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(approver)

NODE = "k8snode01"
ADDRESS = "172.24.8.74"
YEAR = 366 * 24 * 3600
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def subject(*pairs):
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


NODE_SUBJECT = subject((NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:" + NODE))


def sans(*names):
    return x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() or ":" in n else x509.DNSName(n) for n in names]
    )


def csr_pem(name=NODE_SUBJECT, extensions=(sans(NODE, ADDRESS),), key=EC_KEY, digest=hashes.SHA256()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


def csr_object(pem=None, name="csr-1", **spec):
    pem = csr_pem() if pem is None else pem
    return {
        "metadata": {"name": name, "uid": "uid-" + name, "resourceVersion": "1"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": "kubernetes.io/kubelet-serving",
            "username": "system:node:" + NODE,
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            **spec,
        },
        "status": {},
    }


class Known:
    """Stands for the file of allowed hosts."""

    @staticmethod
    def addresses(node):
        hosts = {NODE: {ipaddress.ip_address(ADDRESS), ipaddress.ip_address("fd00::74")}}
        hosts["k8snode02"] = {ipaddress.ip_address("172.24.8.75")}
        return hosts.get(node)


def decide(request):
    return approver.decide(request, Known(), YEAR)


class Decide(unittest.TestCase):
    def check(self, kind, reason, request):
        decision = decide(request)
        self.assertEqual(decision.kind, kind, decision.reason)
        self.assertIn(reason, decision.reason)

    def denied(self, reason, pem=None, **spec):
        self.check("deny", reason, csr_object(pem, **spec))

    def test_approves_what_a_kubelet_asks(self):
        self.check("approve", NODE, csr_object())
        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        usages = ["digital signature", "key encipherment", "server auth"]
        self.check("approve", NODE, csr_object(csr_pem(key=rsa_key), usages=usages, expirationSeconds=86400))
        self.check("approve", NODE, csr_object(csr_pem(extensions=[sans(ADDRESS)])))
        self.check("approve", NODE, csr_object(csr_pem(extensions=[sans(NODE, "fd00:0:0::74")])))

    def test_ignores_other_signers_and_what_is_decided(self):
        self.check("ignore", "signer", csr_object(signerName="kubernetes.io/kube-apiserver-client-kubelet"))
        for condition in ("Approved", "Denied", "Failed"):
            request = csr_object()
            request["status"] = {"conditions": [{"type": condition, "status": "True"}]}
            self.check("ignore", "decided", request)
        request = csr_object()
        request["status"] = {"certificate": "AAAA"}
        self.check("ignore", "decided", request)

    def test_leaves_unknown_requesters_alone(self):
        for username in ("system:node:other", "kubernetes-admin", "system:node:", "", NODE, "xsystem:node:" + NODE):
            self.check("wait", "not a known node", csr_object(username=username))

    def test_groups(self):
        self.denied("system:nodes", groups=["system:authenticated"])
        self.denied("system:authenticated", groups=["system:nodes"])
        self.denied("system:nodes", groups=None)

    def test_usages(self):
        self.denied("'server auth' is missing", usages=["digital signature"])
        self.denied("'client auth'", usages=["server auth", "client auth"])
        self.denied("'any'", usages=["server auth", "any"])
        self.denied("'server auth' is missing", usages=None)

    def test_lifetime(self):
        self.denied("expirationSeconds", expirationSeconds=YEAR + 1)
        self.denied("expirationSeconds", expirationSeconds=-1)
        self.check("approve", NODE, csr_object(expirationSeconds=YEAR))

    def test_subject(self):
        organization, common = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME
        good = "system:node:" + NODE
        for name in (
            subject((organization, "system:nodes"), (common, "system:node:k8snode02")),
            subject((common, good)),
            subject((organization, "system:nodes")),
            subject((organization, "system:masters"), (common, good)),
            subject((organization, "system:nodes"), (organization, "system:masters"), (common, good)),
            subject((organization, "system:nodes"), (common, good), (common, "system:node:k8snode02")),
            subject((organization, "system:nodes"), (common, good), (NameOID.LOCALITY_NAME, "x")),
            subject((organization, "system:nodes"), (common, good), (common, good)),
            x509.Name([]),
        ):
            self.denied("subject is not exactly", csr_pem(name=name))

    def test_names(self):
        self.denied("'k8snode02'", csr_pem(extensions=[sans(NODE, "k8snode02")]))
        self.denied("'*'", csr_pem(extensions=[sans("*")]))
        self.denied("'%s.example.org'" % NODE, csr_pem(extensions=[sans(NODE + ".example.org")]))
        self.denied("172.24.8.75", csr_pem(extensions=[sans(NODE, "172.24.8.75")]))
        self.denied("10.254.0.1", csr_pem(extensions=[sans(ADDRESS, "10.254.0.1")]))
        self.denied("127.0.0.1", csr_pem(extensions=[sans("127.0.0.1")]))
        self.denied("::ffff", csr_pem(extensions=[sans("::ffff:" + ADDRESS)]))
        for name, kind in (
            (x509.RFC822Name("a@example.org"), "RFC822Name"),
            (x509.UniformResourceIdentifier("https://example.org"), "UniformResourceIdentifier"),
            (x509.DirectoryName(NODE_SUBJECT), "DirectoryName"),
            (x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")), "RegisteredID"),
        ):
            extension = x509.SubjectAlternativeName([x509.DNSName(NODE), name])
            self.denied("of the kind " + kind, csr_pem(extensions=[extension]))

    def test_no_name(self):
        # cryptography before 36 writes an empty extension request here, later ones none.
        self.denied("there is no", csr_pem(extensions=[]))
        self.denied("subject alternative name", csr_pem(extensions=[x509.SubjectAlternativeName([])]))

    def test_other_extensions(self):
        for extension in (
            x509.BasicConstraints(ca=True, path_length=None),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
        ):
            self.denied("is not allowed", csr_pem(extensions=[sans(NODE), extension]))

    def test_signature(self):
        der = bytearray(base64.b64decode("".join(csr_pem().decode().split("\n")[1:-2])))
        # Another name of the same length inside the signed part.
        der = bytes(der).replace(b"k8snode01", b"k8snode02")
        text = base64.b64encode(der)
        pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + text + b"\n-----END CERTIFICATE REQUEST-----\n"
        self.denied("signature", pem, username="system:node:k8snode02")

    def test_keys(self):
        short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        self.denied("1024 bits", csr_pem(key=short))
        self.denied("secp224r1", csr_pem(key=ec.generate_private_key(ec.SECP224R1())))
        self.denied("of this kind", csr_pem(key=dsa.generate_private_key(key_size=2048)))

    def test_malformed(self):
        self.denied("exactly one PEM", b"")
        self.denied("exactly one PEM", csr_pem() + csr_pem())
        self.denied("cannot be read", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
        self.denied("not base64", request="?")
        self.denied("not base64", request=None)
        self.denied("not base64", request=7)
        self.check("ignore", "signer", {})

    def test_reasons_are_bounded(self):
        long = ".".join(["a" * 60] * 40)
        decision = decide(csr_object(csr_pem(extensions=[sans(long)])))
        self.assertEqual((decision.kind, len(decision.reason)), ("deny", approver.MAX_REASON))

    def test_condition(self):
        request = csr_object()
        before = copy.deepcopy(request)
        answer = approver.decided(request, approver.Decision("deny", "because"))
        self.assertEqual(request, before)
        self.assertEqual(answer["spec"], request["spec"])
        self.assertEqual(answer["metadata"], request["metadata"])
        self.assertEqual(answer["kind"], "CertificateSigningRequest")
        (condition,) = answer["status"]["conditions"]
        self.assertEqual((condition["type"], condition["status"]), ("Denied", "True"))
        self.assertIn("because", condition["message"])
        self.assertRegex(condition["lastUpdateTime"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class AllowedFile(unittest.TestCase):
    def test_is_read_again_and_survives_a_broken_write(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "allowed.json")
            self.assertRaises(OSError, approver.Allowed, str(file))
            file.write_text('{"a": ["10.0.0.1"]}')
            allowed = approver.Allowed(str(file))
            self.assertEqual(allowed.addresses("a"), {ipaddress.ip_address("10.0.0.1")})
            self.assertFalse(allowed.refresh())
            for broken in ('{"a": ["10.0', '{"a": ["nonsense"]}', "[]", '{"a": null}'):
                file.write_text(broken)
                self.assertFalse(allowed.refresh())
                self.assertEqual(allowed.addresses("a"), {ipaddress.ip_address("10.0.0.1")})
            file.write_text('{"b": ["10.0.0.2"]}')
            self.assertTrue(allowed.refresh())
            self.assertIsNone(allowed.addresses("a"))
            self.assertIsNotNone(allowed.addresses("b"))


# --- The service against a fake API server ----------------------------------------------------------------------


def certificate(folder, name, common_name, issuer=None, ca=False):
    key = ec.generate_private_key(ec.SECP256R1())
    own = subject((NameOID.COMMON_NAME, common_name))
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer[0] if issuer else own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(sans("127.0.0.1"), critical=False)
    )
    signed = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    Path(folder, name + ".crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    Path(folder, name + ".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return own, key


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that go away in mid-answer, as a stopped approver does."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class FakeApi:
    """Lists, watches and takes approvals as kube-apiserver does, as far as the approver uses it."""

    def __init__(self, folder):
        self.lock = threading.Condition()
        self.version = 1000
        self.objects = {}
        self.events = []
        self.answers = []
        self.lists = 0
        self.watches = []
        self.fail = {}
        self.expire = 0
        self.cut = 0
        self.clients = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                parts = dict(self.connection.getpeercert()["subject"][0])
                outer.clients.add(parts["commonName"])
                query = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
                if query.get("fieldSelector") != "spec.signerName=kubernetes.io/kubelet-serving":
                    return self.reply(400, {"message": "field selector"})
                if query.get("watch"):
                    return self.watch(query)
                with outer.lock:
                    outer.lists += 1
                    failure = outer.fail.pop("list", None)
                    if failure:
                        return self.reply(failure, {"message": "no list today"})
                    items = sorted(outer.objects.values(), key=lambda item: item["metadata"]["name"])
                    start = int(query.get("continue", "0"))
                    page = items[start : start + 2]
                    metadata = {"resourceVersion": str(outer.version)}
                    if start + 2 < len(items):
                        metadata["continue"] = str(start + 2)
                    return self.reply(200, {"kind": "CertificateSigningRequestList", "metadata": metadata, "items": page})

            def watch(self, query):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                seen = int(query["resourceVersion"])
                outer.watches.append(seen)
                if outer.expire:
                    outer.expire -= 1
                    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                    self.chunk({"type": "ERROR", "object": status})
                    return self.end()
                self.chunk({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(seen)}}})
                until = time.monotonic() + min(float(query["timeoutSeconds"]), 0.8)
                while time.monotonic() < until:
                    with outer.lock:
                        outer.lock.wait(0.05)
                        new = [event for event in outer.events if event[0] > seen]
                    for version, event in new:
                        seen = version
                        self.chunk(event)
                    if outer.cut:
                        outer.cut -= 1
                        self.wfile.write(b'ff\r\n{"type": "ADD')
                        self.wfile.flush()
                        self.close_connection = True
                        return None
                return self.end()

            def chunk(self, event):
                data = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def end(self):
                self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True

            def do_PUT(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = urlsplit(self.path).path.split("/")[-2]
                with outer.lock:
                    failure = outer.fail.pop(name, None)
                    if failure:
                        return self.reply(failure, {"message": "not today"})
                    current = outer.objects.get(name)
                    if current is None:
                        return self.reply(404, {"message": "gone"})
                    if body["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
                        return self.reply(409, {"message": "conflict"})
                    outer.answers.append((name, body["status"]["conditions"][-1]["type"]))
                    outer.put(body, "MODIFIED")
                    return self.reply(200, body)

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(folder, "server.crt"), Path(folder, "server.key"))
        context.load_verify_locations(Path(folder, "ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = "https://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, item, kind="ADDED", announce=True):
        """Stores the object under a new version and tells the watchers."""
        with self.lock:
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            self.objects[item["metadata"]["name"]] = item
            if announce:
                self.events.append((self.version, {"type": kind, "object": item}))
            self.lock.notify_all()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tls = tempfile.TemporaryDirectory()
        ca = certificate(cls.tls.name, "ca", "ca", ca=True)
        certificate(cls.tls.name, "server", "server", ca)
        certificate(cls.tls.name, "client", "k8s-ans:csr-approver", ca)
        certificate(cls.tls.name, "strange-ca", "strange", ca=True)

    @classmethod
    def tearDownClass(cls):
        cls.tls.cleanup()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.allowed = Path(self.folder.name, "allowed.json")
        self.allowed.write_text(json.dumps({NODE: [ADDRESS]}))
        self.api = FakeApi(self.tls.name)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(Path(self.folder.name, "notify")))
        self.notify.settimeout(20)
        self.process = None

    def tearDown(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.communicate()
        self.notify.close()
        self.api.close()
        self.folder.cleanup()

    def start(self, ca="ca.crt"):
        tls = Path(self.tls.name)
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--server", self.api.url, "--ca", str(tls / ca)]
            + ["--cert", str(tls / "client.crt"), "--key", str(tls / "client.key"), "--allowed", str(self.allowed)],
            env={**os.environ, "NOTIFY_SOCKET": str(Path(self.folder.name, "notify"))},
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=20)
        self.assertEqual(self.process.returncode, 0, log)
        return log

    def until(self, condition):
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline, "timed out; answers: %r" % self.api.answers)
            self.assertIsNone(self.process.poll())
            time.sleep(0.02)

    def test_list_then_watch(self):
        for number in range(5):
            self.api.put(csr_object(name="old-%d" % number), announce=False)
        self.start()
        self.assertEqual(self.notify.recv(100), b"READY=1")
        self.until(lambda: len(self.api.answers) == 5)
        self.api.put(csr_object(name="new"))
        bad = csr_pem(extensions=[sans(NODE, "10.254.0.1")])
        self.api.put(csr_object(bad, name="bad"))
        self.api.put(csr_object(name="client", signerName="kubernetes.io/kube-apiserver-client-kubelet"))
        self.until(lambda: len(self.api.answers) == 7)
        # Watches follow one another from the last version, without a new list.
        lists = self.api.lists
        self.until(lambda: len(self.api.watches) >= 3)
        self.assertEqual(self.api.lists, lists)
        self.assertGreaterEqual(self.api.watches[-1], 1005)
        log = self.stop()
        self.assertEqual(self.notify.recv(100), b"STOPPING=1")
        kinds = dict(self.api.answers)
        self.assertEqual(kinds.pop("bad"), "Denied")
        self.assertEqual(set(kinds.values()), {"Approved"})
        self.assertEqual(len(self.api.answers), 7)
        self.assertEqual(self.api.clients, {"k8s-ans:csr-approver"})
        self.assertIn("<4>denied bad of system:node:%s: the address 10.254.0.1" % NODE, log)
        self.assertIn("<6>approved new of system:node:%s" % NODE, log)

    def test_a_node_that_becomes_known(self):
        other = subject((NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, "system:node:late"))
        request = csr_object(csr_pem(other, [sans("late", "10.1.1.1")]), name="late", username="system:node:late")
        self.start()
        self.notify.recv(100)
        self.api.put(request)
        self.until(lambda: len(self.api.watches) >= 3)
        self.assertEqual(self.api.answers, [])
        self.allowed.write_text(json.dumps({NODE: [ADDRESS], "late": ["10.1.1.1"]}))
        self.until(lambda: self.api.answers == [("late", "Approved")])
        log = self.stop()
        self.assertEqual(log.count("left late pending"), 1)

    def test_three_at_once_and_what_the_server_refuses(self):
        self.start()
        self.notify.recv(100)
        self.api.fail.update({"a-conflict": 409, "b-invalid": 422, "c-busy": 500})
        for name in ("a-conflict", "b-invalid", "c-busy", "d-good"):
            self.api.put(csr_object(name=name))
        self.until(lambda: {"b-invalid", "c-busy", "d-good"} <= {name for name, _ in self.api.answers})
        log = self.stop()
        self.assertIn("did not take the answer to b-invalid", log)
        self.assertNotIn("answer to a-conflict", log)

    def test_history_too_old_and_a_cut_connection(self):
        self.api.expire = 1
        self.start()
        self.notify.recv(100)
        self.until(lambda: self.api.lists >= 2)
        self.api.cut = 1
        self.until(lambda: self.api.lists >= 3)
        self.api.put(csr_object(name="after"))
        self.until(lambda: self.api.answers == [("after", "Approved")])
        self.stop()

    def test_not_ready_before_the_first_list(self):
        self.api.fail["list"] = 403
        self.start()
        self.assertEqual(self.notify.recv(100), b"READY=1")
        self.assertEqual(self.api.lists, 2)
        self.assertIn("HTTP 403: no list today", self.stop())

    def test_a_server_of_another_ca_is_not_trusted(self):
        self.api.put(csr_object(name="trap"))
        self.start(ca="strange-ca.crt")
        time.sleep(2)
        log = self.stop()
        self.assertIn("certificate verify failed", log.lower())
        self.assertEqual((self.api.lists, self.api.answers), (0, []))

    def test_a_missing_file_ends_it(self):
        self.allowed.unlink()
        self.start()
        _, log = self.process.communicate(timeout=20)
        self.assertEqual(self.process.returncode, 1)
        self.assertIn("cannot start", log)


if __name__ == "__main__":
    unittest.main()
