// Answers every request with `Hello World!`, or with whatever the variable TARGET names. No libc: all that it needs
// is the host's functions (wasi_http.h) and memory for the environment that the host hands over.

#include "wasi_http.h"

#define PAGE_BYTES 65536
#define TEXT_BYTES_MAX 1024
#define STRING(text) (text), sizeof(text) - 1

extern char __heap_base[]; // set by the linker

static uintptr_t heap_used;

// The host asks for memory here. What it hands over in one call is forgotten with the next, so nothing is ever freed;
// `old` is never set, since no list is grown.
WASI_EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  (void)old, (void)old_size;
  uintptr_t start = ((uintptr_t)__heap_base + heap_used + align - 1) & ~(uintptr_t)(align - 1);
  uintptr_t end = start + size;
  uintptr_t have = __builtin_wasm_memory_size(0) * PAGE_BYTES;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE_BYTES - 1) / PAGE_BYTES) == (size_t)-1)
    __builtin_trap();
  heap_used = end - (uintptr_t)__heap_base;
  return (void *)start;
}

static int is_equal(wasi_string string, const char *text, size_t len) {
  if (string.len != len)
    return 0;
  for (size_t i = 0; i < len; i++)
    if (string.data[i] != text[i])
      return 0;
  return 1;
}

typedef struct {
  char data[TEXT_BYTES_MAX];
  size_t len;
} text;

// Adds as much as there is room for.
static void add(text *text, const char *data, size_t len) {
  for (size_t i = 0; i < len && text->len < TEXT_BYTES_MAX; i++)
    text->data[text->len++] = data[i];
}

static void greet(text *greeting) {
  wasi_variables environment;
  wasi_get_environment(&environment);
  wasi_string target = {STRING("World")};
  for (size_t i = 0; i < environment.len; i++)
    if (is_equal(environment.data[i].name, STRING("TARGET")))
      target = environment.data[i].value;
  greeting->len = 0;
  add(greeting, STRING("Hello "));
  add(greeting, target.data, target.len);
  add(greeting, STRING("!\n"));
}

WASI_EXPORT("wasi:http/incoming-handler@0.2.10#handle")
void handle(wasi_resource request, wasi_resource response_out) {
  heap_used = 0;
  wasi_incoming_request_drop(request);

  wasi_outcome outcome;
  wasi_resource headers = wasi_fields_new();
  wasi_fields_append(headers, STRING("content-type"), STRING("text/plain; charset=utf-8"), &outcome);
  wasi_resource response = wasi_outgoing_response_new(headers);
  wasi_result body;
  wasi_outgoing_response_body(response, &body);
  wasi_response_outparam_set(response_out, 0, response, 0, 0, 0, 0, 0, 0);
  if (body.is_error)
    return;

  wasi_result stream;
  wasi_outgoing_body_write(body.value, &stream);
  if (stream.is_error)
    return;
  text greeting;
  greet(&greeting);
  wasi_output_stream_write(stream.value, greeting.data, greeting.len, &outcome);
  wasi_output_stream_drop(stream.value);
  if (!outcome.is_error) // else the caller is gone, and an unfinished body says that it is cut short
    wasi_outgoing_body_finish(body.value, 0, 0, &outcome);
}
