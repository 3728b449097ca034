"""Engines as long-lived processes: each is started once, asked in turn, and stopped while another one is asked."""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 900.0  # seconds: the first sample of a compiled model includes its compilation


class Refused(RuntimeError):
    """The engine answered that it cannot do the case, or died of it."""


class Worker:
    def __init__(self, name, command, threads, log):
        self.name = name
        self.log = log
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "bufsize": 0}
        self.process = subprocess.Popen([*map(str, command)], env=environment, **pipes)

    def ask(self, case):
        """The answer to one case. Between two questions the process is stopped, so that no thread of it spins on."""
        self.signal(signal.SIGCONT)
        start = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps(case).encode() + b"\n")
            line = self.line()
        except BrokenPipeError:
            line = b""
        seconds = time.perf_counter() - start
        self.signal(signal.SIGSTOP)
        if not line:
            raise Refused(f"{self.name} ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(f"{self.name}: {answer['error']}")
        return answer | {"wall_ms": seconds * 1e3}

    def line(self):
        end = time.monotonic() + PATIENCE
        read = b""
        while not read.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                self.process.kill()
                raise Refused(f"{self.name} said nothing for {PATIENCE:.0f} s")
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                return b""
            read += part
        return read

    def signal(self, which):
        if self.process.poll() is None:
            self.process.send_signal(which)

    def end(self):
        self.signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Pool:
    """Workers by engine name, started when first needed."""

    def __init__(self, foveate, threads, log):
        python = [sys.executable]
        self.commands = {
            "foveate": [foveate, "bench", "--worker"],
            "transformers": [*python, HERE / "transformers_worker.py", "--threads", threads],
            "onnxruntime": [*python, HERE / "onnx_worker.py", "--threads", threads],
            "llama.cpp": [*python, HERE / "llama_worker.py", "--threads", threads],
            "pytorch": [*python, HERE / "train_step.py", "--threads", threads],
        }
        self.threads = threads
        self.log = log
        self.running = {}

    def worker(self, engine):
        found = self.running.get(engine)
        if found is None or found.process.poll() is not None:
            found = self.running[engine] = Worker(engine, self.commands[engine], self.threads, self.log)
        return found

    def ask(self, engine, case):
        return self.worker(engine).ask(case)

    def process(self, engine):
        return self.worker(engine).process.pid

    def describe(self):
        """What each peer that ran says of itself."""
        told = {}
        for engine in self.running:
            if engine != "foveate":
                try:
                    told[engine] = self.ask(engine, {"stage": "describe"})
                except Refused as refusal:
                    told[engine] = {"error": str(refusal)}
        return told

    def end(self, *engines):
        """Ends these workers, or all: their memory is free for the next comparison."""
        for engine in engines or tuple(self.running):
            if engine in self.running:
                self.running.pop(engine).end()
