// Compiles the contract of a Solidity file beside this one and prints {"abi": …, "bytecode": "0x…"}.
//   node compile.mjs "$(./install.sh)" Token.sol
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, file] = process.argv.slice(2);
const solc = createRequire(join(folder, "package.json"))("solc");
const input = {
  language: "Solidity",
  sources: { [file]: { content: readFileSync(new URL(file, import.meta.url), "utf8") } },
  settings: {
    evmVersion: "cancun",
    optimizer: { enabled: true },
    outputSelection: { [file]: { "*": ["abi", "evm.bytecode.object"] } },
  },
};
const find = (path) => ({ contents: readFileSync(join(folder, "node_modules", path), "utf8") });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
const errors = (output.errors ?? []).filter(({ severity }) => severity === "error");
if (errors.length > 0) {
  console.error(errors.map(({ formattedMessage }) => formattedMessage).join("\n"));
  process.exit(1);
}
const [contract] = Object.values(output.contracts[file]);
console.log(JSON.stringify({ abi: contract.abi, bytecode: `0x${contract.evm.bytecode.object}` }));
