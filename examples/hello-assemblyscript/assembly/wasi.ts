// The few functions of WASI 0.2 that a hello calls, as the component model's canonical ABI lays them out: a resource is
// an i32, a string or list is an address and a length, and what does not fit one return value is written to `result`.

// @ts-ignore: decorator
@external("wasi:cli/environment@0.2.10", "get-environment")
export declare function getEnvironment(result: usize): void;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[constructor]fields")
export declare function newFields(): i32;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[method]fields.append")
export declare function appendField(fields: i32, name: usize, nameLength: i32, value: usize, valueLength: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[resource-drop]incoming-request")
export declare function dropRequest(request: i32): void;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[constructor]outgoing-response")
export declare function newResponse(headers: i32): i32;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[method]outgoing-response.body")
export declare function responseBody(response: i32, result: usize): void;

// The seven numbers after `response` are the error-code of a failure; all 0 beside a response.
// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[static]response-outparam.set")
export declare function setResponse(out: i32, isError: i32, response: i32, e1: i32, e2: i64, e3: i32, e4: i32, e5: i32, e6: i32): void;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[method]outgoing-body.write")
export declare function bodyStream(body: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:http/types@0.2.10", "[static]outgoing-body.finish")
export declare function finishBody(body: i32, hasTrailers: i32, trailers: i32, result: usize): void;

// At most 4096 bytes.
// @ts-ignore: decorator
@external("wasi:io/streams@0.2.10", "[method]output-stream.blocking-write-and-flush")
export declare function writeStream(stream: i32, data: usize, length: i32, result: usize): void;

// @ts-ignore: decorator
@external("wasi:io/streams@0.2.10", "[resource-drop]output-stream")
export declare function dropStream(stream: i32): void;
