"""Servers as processes: foveate, llama.cpp's of llama-cpp-python, and nginx with the committed configuration."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from client import get, metric

START = 120  # seconds until a server answers
CONFIGURATION = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "nginx.conf"


class Server:
    """A process with an address; it ends with its `with`."""

    def __init__(self, command, log=subprocess.DEVNULL, environment=None):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def pause(self):
        """Takes no processor time until it is resumed."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)

    def resident(self):
        """Bytes of memory that it holds, those of mapped files left out: the model's do not count as its own."""
        fields = {}
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            fields[name] = value.split()
        return int(fields["RssAnon"][0]) * 1024

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Foveate(Server):
    """`foveate serve`, once it is ready. Port 0 takes a free one."""

    def __init__(self, program, model, threads, port=0, options=()):
        # No key and no profile of this machine.
        environment = {name: value for name, value in os.environ.items() if name != "FOVEATE_API_KEY"}
        environment["XDG_CACHE_HOME"] = "/dev/null/nowhere"
        command = [program, "serve", str(model), "--port", str(port), "--threads", str(threads), "--log-format", "json"]
        super().__init__([*command, *options], subprocess.PIPE, environment)
        self.threads = threads
        self.lines = []
        self.url = "http://" + self.hears("listening")["address"]
        self.hears("ready")
        threading.Thread(target=self.drain, daemon=True).start()

    def hears(self, message):
        for line in self.process.stderr:
            told = json.loads(line) if line.startswith(b"{") else {"message": line.decode()}
            self.lines.append(told)
            if told["message"] == message:
                return told
        raise RuntimeError(f"foveate ended before it said {message!r}: {self.lines}")

    def drain(self):
        for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith(b"{") else {"message": line.decode()})

    def count(self, line):
        return metric(self.url, line)


class Llama(Server):
    """llama.cpp behind llama-cpp-python's server, which answers one request after another.

    Settings, each the better one: no interruption of an answer by the next request (its default cuts answers short), logits of
    the last position alone (its default keeps all), flash attention, all threads for prompts and answers.
    """

    SETTINGS = {
        "interrupt_requests": "false", "logits_all": "false", "flash_attn": "true", "n_ctx": "2048", "n_batch": "512",
        "verbose": "false", "model_alias": "smollm2",
    }

    def __init__(self, model, threads):
        port = free_port()
        settings = self.SETTINGS | {
            "model": str(model), "host": "127.0.0.1", "port": str(port), "n_threads": str(threads), "n_threads_batch": str(threads),
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        super().__init__([sys.executable, "-m", "llama_cpp.server", *words])
        self.url = f"http://127.0.0.1:{port}"
        wait_for(self, "/v1/models")


class Nginx(Server):
    """nginx with deploy/nginx.conf, in which only the ports are others."""

    def __init__(self, program, folder, replicas):
        port = free_port()
        site = CONFIGURATION.read_text()
        changes = {"listen 80;": f"listen 127.0.0.1:{port};"}
        changes |= {f"127.0.0.1:{8081 + nth}": replica.url.removeprefix("http://") for nth, replica in enumerate(replicas)}
        for committed, here in changes.items():
            if site.count(committed) != 1:
                raise RuntimeError(f"{CONFIGURATION} has {committed!r} {site.count(committed)} times")
            site = site.replace(committed, here)
        (folder / "foveate.conf").write_text(site)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{\n{places}access_log {folder}/access.log;\ninclude {folder}/foveate.conf;\n}}\n"
        )
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        if tested.returncode:
            raise RuntimeError(tested.stderr)
        super().__init__(command)
        self.url = f"http://127.0.0.1:{port}"
        wait_for(self, "/v1/models")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(server, path):
    end = time.monotonic() + START
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if get(server.url, path)[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    server.__exit__()
    raise RuntimeError(f"{server.process.args[0]} does not answer at {server.url}")
