// AssemblyScript -> core module -> component. Usage: node build.mjs OUTPUT
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentEmbed, componentNew } from "@bytecodealliance/jco";
import asc from "assemblyscript/asc";
import binaryen from "binaryen";

const HANDLE = "wasi:http/incoming-handler@0.2.10#handle";
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const outputs = new Map();
const { error, stderr } = await asc.main(
  ["assembly/index.ts", "--outFile", "core.wasm", "--optimizeLevel", "3", "--shrinkLevel", "2", "--noAssert",
    "--runtime", "stub", "--use", "abort="],
  { baseDir: here("."), writeFile: (name, contents) => void outputs.set(name, contents) },
);
if (error) {
  console.error(stderr.toString());
  throw error;
}

// AssemblyScript exports identifiers only; the component model's names are not identifiers.
const module = binaryen.readBinary(outputs.get("core.wasm"));
const { value } = binaryen.getExportInfo(module.getExport("handle"));
module.removeExport("handle");
module.addFunctionExport(value, HANDLE);

const embedded = await componentEmbed({
  binary: module.emitBinary(),
  witSource: await readFile(here("../wit/hello.wit"), "utf8"),
  world: "hello",
  stringEncoding: "utf16",
});
await writeFile(process.argv[2], await componentNew(embedded, []));
