// The few functions of WASI 0.2 that a hello calls, as the component model's canonical ABI lays them out: a resource
// is an int, a string or list is an address and a length, and what does not fit one return value is written to `result`.
// For more than a few functions let `wit-bindgen c` generate this file from the WIT.
#ifndef WASI_HTTP_H
#define WASI_HTTP_H

#include <stddef.h>
#include <stdint.h>

#define WASI_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define WASI_EXPORT(name) __attribute__((export_name(name)))

typedef int32_t wasi_resource;

typedef struct {
  const char *data;
  size_t len;
} wasi_string;

typedef struct {
  wasi_string name, value;
} wasi_variable;

typedef struct {
  const wasi_variable *data;
  size_t len;
} wasi_variables;

// result<resource>: value holds when is_error is 0.
typedef struct {
  uint8_t is_error;
  wasi_resource value;
} wasi_result;

// result<_, error>: only its first byte is read here; 64 bytes hold the largest error.
typedef struct {
  _Alignas(8) uint8_t is_error;
  uint8_t error[63];
} wasi_outcome;

WASI_IMPORT("wasi:cli/environment@0.2.10", "get-environment")
void wasi_get_environment(wasi_variables *result);

#define WASI_HTTP(name) WASI_IMPORT("wasi:http/types@0.2.10", name)

WASI_HTTP("[constructor]fields")
wasi_resource wasi_fields_new(void);

WASI_HTTP("[method]fields.append")
void wasi_fields_append(wasi_resource fields, const char *name, size_t name_len, const char *value, size_t value_len,
                        wasi_outcome *result);

WASI_HTTP("[resource-drop]incoming-request")
void wasi_incoming_request_drop(wasi_resource request);

WASI_HTTP("[constructor]outgoing-response")
wasi_resource wasi_outgoing_response_new(wasi_resource headers);

WASI_HTTP("[method]outgoing-response.body")
void wasi_outgoing_response_body(wasi_resource response, wasi_result *result);

// The seven words after `response` are the error-code of a failure; all 0 beside a response.
WASI_HTTP("[static]response-outparam.set")
void wasi_response_outparam_set(wasi_resource out, int32_t is_error, int32_t response, int32_t, int64_t, int32_t,
                                int32_t, int32_t, int32_t);

WASI_HTTP("[method]outgoing-body.write")
void wasi_outgoing_body_write(wasi_resource body, wasi_result *result);

WASI_HTTP("[static]outgoing-body.finish")
void wasi_outgoing_body_finish(wasi_resource body, int32_t has_trailers, wasi_resource trailers, wasi_outcome *result);

#define WASI_STREAMS(name) WASI_IMPORT("wasi:io/streams@0.2.10", name)

// At most 4096 bytes.
WASI_STREAMS("[method]output-stream.blocking-write-and-flush")
void wasi_output_stream_write(wasi_resource stream, const char *data, size_t len, wasi_outcome *result);

WASI_STREAMS("[resource-drop]output-stream")
void wasi_output_stream_drop(wasi_resource stream);

#endif
