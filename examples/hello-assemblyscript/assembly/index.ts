// Answers every request with `Hello World!`, or with whatever the variable TARGET names. The component's strings are
// UTF-16 (build.mjs says so), as AssemblyScript's are: they cross the border without being converted here.

import {
  appendField, bodyStream, dropRequest, dropStream, finishBody, getEnvironment, newFields, newResponse, responseBody,
  setResponse, writeStream,
} from "./wasi";

/** Room for the largest result that a function writes, error codes included. */
const result = memory.data(64, 8);
/** A result's value when it is a resource: behind the byte that tells errors. */
const VALUE: usize = 4;
/** Letters of TARGET that are used; one write takes 4096 bytes, and a letter has three at most. */
const TARGET_LENGTH_MAX = 1000;

/** The host asks for memory here. The instance ends with the call, so nothing is freed. */
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return old == 0 ? heap.alloc(size) : heap.realloc(old, size);
}

// build.mjs gives this export the name that the component model wants.
export function handle(request: i32, responseOut: i32): void {
  dropRequest(request);
  const headers = newFields();
  const name = "content-type";
  const value = String.UTF8.encode("text/plain; charset=utf-8");
  appendField(headers, changetype<usize>(name), name.length, changetype<usize>(value), value.byteLength, result);
  const response = newResponse(headers);
  responseBody(response, result);
  const hasBody = load<u8>(result) == 0;
  const body = load<i32>(result, VALUE);
  setResponse(responseOut, 0, response, 0, 0, 0, 0, 0, 0);
  if (!hasBody) return;

  bodyStream(body, result);
  if (load<u8>(result) != 0) return;
  const stream = load<i32>(result, VALUE);
  const text = String.UTF8.encode("Hello " + target() + "!\n");
  writeStream(stream, changetype<usize>(text), text.byteLength, result);
  const written = load<u8>(result) == 0;
  dropStream(stream);
  // Else the caller is gone, and an unfinished body says that it is cut short.
  if (written) finishBody(body, 0, 0, result);
}

function target(): string {
  getEnvironment(result);
  const variables = load<usize>(result);
  const count = load<u32>(result, 4);
  for (let i: u32 = 0; i < count; i++) {
    const variable = variables + i * 16; // name, its length, value, its length: four bytes each
    if (text(variable) == "TARGET") return text(variable + 8).slice(0, TARGET_LENGTH_MAX);
  }
  return "World";
}

/** The string whose address and length (in units of two bytes) are at `pair`. */
function text(pair: usize): string {
  return String.UTF16.decodeUnsafe(load<usize>(pair), load<u32>(pair, 4) << 1);
}
