#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The other side of registry.sh: makes and pushes images, stands between client and registry with
faults, hands out tokens.

  push URL CA NAME...          make images and push them (see push_all); digests as NAME=DIGEST lines
  proxy PORT CERT KEY UPSTREAM CA DIR   faults from DIR/rules, one line each: ACTION COUNT PATH-PART ARG;
                               requests to DIR/log: method path range authorization
  tokens PORT CERT KEY ISSUER USER PASSWORD   a token server for the distribution registry
"""
import base64, gzip, hashlib, http.client, http.server, io, json, os, random, re, socketserver, ssl, subprocess
import sys, tarfile, threading, time, urllib.parse, urllib.request

MT = "application/vnd.oci.image."
INDEX, MANIFEST, CONFIG, LAYER = (MT + k for k in (
    "index.v1+json", "manifest.v1+json", "config.v1+json", "layer.v1.tar+gzip"))
D_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- push --------------------------------------------------------------------

class Repo:
    def __init__(self, url, ca, name):
        self.url, self.name = url, name
        self.ctx = ssl.create_default_context(cafile=ca)
        self.auth = os.environ.get("PUSH_AUTH")

    def call(self, method, url, data=None, headers={}):
        req = urllib.request.Request(url, data=data, method=method, headers=dict(headers))
        if self.auth:
            req.add_header("Authorization", self.auth)
        return urllib.request.urlopen(req, context=self.ctx)

    def blob(self, data, media):
        r = self.call("POST", f"{self.url}/v2/{self.name}/blobs/uploads/", b"")
        where = urllib.parse.urljoin(self.url, r.headers["Location"])
        where += ("&" if "?" in where else "?") + "digest=" + sha(data)
        self.call("PUT", where, data, {"Content-Type": "application/octet-stream"})
        return {"mediaType": media, "digest": sha(data), "size": len(data)}

    def manifest(self, doc, tag, media):
        data = json.dumps(doc).encode()
        self.call("PUT", f"{self.url}/v2/{self.name}/manifests/{tag or sha(data)}", data, {"Content-Type": media})
        return {"mediaType": media, "digest": sha(data), "size": len(data)}


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, content in files.items():
            i = tarfile.TarInfo(name)
            i.size, i.mode = len(content), 0o644
            t.addfile(i, io.BytesIO(content))
    raw = out.getvalue()
    return raw, gzip.compress(raw, 1, mtime=0)


def image(repo, tag, layers, arch="amd64", docker=False, silent=False):
    config = {"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
              "rootfs": {"type": "layers", "diff_ids": [sha(raw) for raw, _ in layers]}}
    doc = {"schemaVersion": 2, "mediaType": D_MANIFEST if docker else MANIFEST,
           "config": repo.blob(json.dumps(config).encode(),
                               "application/vnd.docker.container.image.v1+json" if docker else CONFIG),
           "layers": [repo.blob(z, "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else LAYER)
                      for _, z in layers]}
    media = doc["mediaType"]
    if silent:  # legal: only the descriptor and the server say what it is
        del doc["mediaType"]
    return repo.manifest(doc, tag, media)


def push_all(url, ca):
    rng = random.Random(7)
    small = layer({"etc/hello": b"hello\n"})
    big = layer({"big": rng.randbytes(12 << 20)})
    repo = Repo(url, ca, "test/img")
    say = lambda name, d: print(f"{name}={d['digest']}", flush=True)
    say("v1", image(repo, "v1", [small, big]))
    print("small_layer=" + sha(small[1]), "big_layer=" + sha(big[1]), sep="\n")
    say("docker", image(repo, "docker", [small], docker=True))
    say("twice", image(repo, "twice", [small, layer({"x": b"x"}), small]))
    say("many", image(repo, "many", [layer({f"f{i}": rng.randbytes(1 << 20)}) for i in range(8)]))
    arm = image(repo, None, [layer({"arm": b"arm"})], arch="arm64")
    amd = image(repo, None, [layer({"amd": b"amd"})])
    for d, arch in ((arm, "arm64"), (amd, "amd64")):
        d["platform"] = {"architecture": arch, "os": "linux"}
    say("arm", arm)
    say("amd", amd)
    mute = dict(image(repo, None, [small], silent=True), mediaType=INDEX, platform=amd["platform"])
    say("confused", repo.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [mute]}, "confused", INDEX))
    say("multi", repo.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": [arm, amd]}, "multi", INDEX))


# ---- proxy with faults -------------------------------------------------------

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(port, cert, key, handler):
    s = Server(("127.0.0.1", int(port)), handler)
    if cert != "-":
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(cert, key)
        s.socket = ctx.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
    s.handle_error = lambda *a: None
    s.serve_forever()


def take_rule(path, directory, lock):
    """The first rule that fits and has something left: (action, arg)."""
    with lock:
        name = directory + "/rules"
        if not os.path.exists(name):
            return None, None
        lines = open(name).read().splitlines()
        for n, line in enumerate(lines):
            action, count, part, *arg = line.split()
            if int(count) > 0 and part in path:
                lines[n] = " ".join([action, str(int(count) - 1), part, *arg])
                with open(name + ".new", "w") as f:
                    f.write("\n".join(lines) + "\n")
                os.rename(name + ".new", name)
                return action, arg[0] if arg else ""
        return None, None


def proxy(port, cert, key, upstream, ca, directory):
    lock = threading.Lock()
    ctx = ssl.create_default_context(cafile=ca)
    up = urllib.parse.urlparse(upstream)
    busy = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        log_message = lambda *a: None

        def fetch(self, headers):
            c = http.client.HTTPSConnection(up.hostname, up.port, context=ctx)
            c.request("GET", self.path, headers=headers)
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()

        def reply(self, status, headers, body, limit=None, rate=None):
            self.send_response(status)
            for k, v in headers.items():
                if k.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(k, v)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            part = body if limit is None else body[:limit]
            if rate:
                for i in range(0, len(part), 65536):
                    self.wfile.write(part[i:i + 65536])
                    time.sleep(65536 / rate)
            else:
                self.wfile.write(part)
            self.wfile.flush()
            if limit is not None:
                self.close_connection = True

        def do_GET(self):
            with lock:
                busy[0] += 1
                with open(directory + "/log", "a") as f:
                    f.write(f"{self.path} range={self.headers.get('Range')} "
                            f"auth={self.headers.get('Authorization')} busy={busy[0]}\n")
            try:
                self.answer()
            finally:
                with lock:
                    busy[0] -= 1

        def answer(self):
            action, arg = take_rule(self.path, directory, lock)
            if action == "status":
                code, _, wait = arg.partition(",")
                return self.reply(int(code), {"Retry-After": wait} if wait else {},
                                  b'{"errors":[{"message":"\x1b[31mno"}]}')
            if action == "redirect":
                return self.reply(307, {"Location": arg + self.path}, b"")
            if action == "headers":
                return self.reply(200, {f"X-{i}": "y" * 1000 for i in range(90)}, b"{}")
            if action == "body":
                return self.reply(200, {"Content-Type": arg}, open(directory + "/body", "rb").read())
            ask = {k: v for k, v in self.headers.items() if k in ("Accept", "Authorization", "Range")}
            if action in ("norange", "badrange"):
                ask.pop("Range", None)
            status, headers, body = self.fetch(ask)
            if action == "cut":
                return self.reply(status, headers, body, limit=int(arg))
            if action == "short":
                return self.reply(status, headers, body[:int(arg)])
            if action == "slow":
                return self.reply(status, headers, body, rate=int(arg))
            if action == "flip":
                body = body[:-9] + bytes([body[-9] ^ 1]) + body[-8:]
            if action == "badrange":
                status, headers["Content-Range"] = 206, f"bytes 5-{len(body)}/{len(body)}"
            if action == "type":
                headers["Content-Type"] = arg
            if action == "name":
                headers["Docker-Content-Digest"] = "sha256:" + "0" * 64
            self.reply(status, headers, body)

    serve(port, cert, key, Handler)


# ---- tokens ------------------------------------------------------------------

def tokens(port, cert, key, issuer, user, password):
    b64 = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()
    der = "".join(open(cert).read().split("-----")[2].split())
    login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        log_message = lambda *a: None

        def do_GET(self):
            q = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
            if self.headers.get("Authorization") != login:
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            scope = q["scope"][0].split(":")
            claims = {"iss": issuer, "sub": user, "aud": q["service"][0], "exp": int(time.time()) + 300,
                      "nbf": int(time.time()) - 10, "iat": int(time.time()), "jti": os.urandom(8).hex(),
                      "access": [{"type": scope[0], "name": scope[1],
                                  "actions": scope[2].split(",")}]}
            head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
            text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
            sig = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(),
                                 stdout=subprocess.PIPE, check=True).stdout
            body = json.dumps({"token": text + "." + b64(sig), "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    serve(port, cert, key, Handler)


if __name__ == "__main__":
    {"push": push_all, "proxy": proxy, "tokens": tokens}[sys.argv[1]](*sys.argv[2:])
