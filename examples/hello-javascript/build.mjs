// JavaScript -> component. Usage: node build.mjs OUTPUT
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { component } = await componentize({
  sourcePath: here("hello.js"),
  witPath: here("../wit/hello.wit"),
  worldName: "hello",
});
await writeFile(process.argv[2], component);
