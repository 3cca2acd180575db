// stamps.mjs ADDRESS PORT FOLDER: a time stamp authority (RFC 3161) over HTTP: each query is handed to `openssl ts`.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [address, port, folder] = process.argv.slice(2);

function stamp(query) {
  const work = mkdtempSync(join(tmpdir(), "stamps-"));
  try {
    const [asked, answer] = [join(work, "query"), join(work, "answer")];
    writeFileSync(asked, query);
    const options = ["ts", "-reply", "-config", join(folder, "tsa.cnf"), "-section", "demo", "-queryfile", asked, "-out", answer];
    execFileSync("openssl", options, { stdio: ["ignore", "ignore", "inherit"] });
    return readFileSync(answer);
  } finally {
    rmSync(work, { recursive: true });
  }
}

createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    if (request.method !== "POST") return response.writeHead(405).end();
    try {
      response.writeHead(200, { "content-type": "application/timestamp-reply" }).end(stamp(Buffer.concat(parts)));
    } catch (error) {
      response.writeHead(500, { "content-type": "text/plain" }).end(String(error));
    }
  });
}).listen(Number(port), address);
