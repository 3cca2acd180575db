// Compiles the Solidity files that are named, beside this one, and prints {"Name": "creation code in hex", …}.
//   node compile.mjs "$(../../e2e/node/install.sh)" Router.sol
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, ...files] = process.argv.slice(2);
const solc = createRequire(join(folder, "package.json"))("solc");
const read = (file) => ({ content: readFileSync(new URL(file, import.meta.url), "utf8") });
const input = {
  language: "Solidity",
  sources: Object.fromEntries(files.map((file) => [file, read(file)])),
  settings: {
    // Without opcodes that some networks still lack.
    evmVersion: "paris",
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
  },
};
const find = (path) => ({ contents: readFileSync(join(folder, "node_modules", path), "utf8") });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
const errors = output.errors ?? [];
if (errors.length > 0) {
  console.error(errors.map(({ formattedMessage }) => formattedMessage).join("\n"));
  process.exit(1);
}
const code = ([name, { evm }]) => [name, evm.bytecode.object];
console.log(JSON.stringify(Object.fromEntries(files.flatMap((file) => Object.entries(output.contracts[file]).map(code)))));
