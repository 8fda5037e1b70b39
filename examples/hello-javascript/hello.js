// Answers every request with `Hello World!`, or with whatever the variable TARGET names.
import { getEnvironment } from "wasi:cli/environment@0.2.10";

addEventListener("fetch", (event) => {
  const environment = new Map(getEnvironment());
  event.respondWith(new Response(`Hello ${environment.get("TARGET") ?? "World"}!\n`));
});
