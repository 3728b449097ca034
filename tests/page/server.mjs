// `foveate serve` as a process, for as long as a test needs it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const program = process.env.FOVEATE;
if (!program) {
  throw new Error("FOVEATE must name the program");
}

export async function serve(options = [], key = null) {
  const environment = { ...process.env };
  delete environment.FOVEATE_API_KEY;
  if (key) {
    environment.FOVEATE_API_KEY = key;
  }
  const fixed = ["serve", "--port", "0", "--log-format", "json", "--threads", "1"];
  const child = spawn(program, [...fixed, ...options], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  let address = null;
  const lines = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const { message, address: found } = JSON.parse(line);
    address = found ?? address;
    if (message === "ready") {
      break;
    }
  }
  if (!address) {
    throw new Error(`no server: ${lines.join("\n")}`);
  }
  // What it logs from here on is nobody's: but it must not wait for a reader.
  child.stderr.resume();
  return {
    origin: `http://${address}`,
    port: Number(address.split(":").pop()),
    async end() {
      child.kill();
      await ended;
    },
  };
}
