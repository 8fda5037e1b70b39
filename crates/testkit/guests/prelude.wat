;; What every HTTP guest starts with: imports, an allocator that only grows, and helpers to answer.
;; Each guest file continues this module; `crates/testkit/src/guest.rs` puts the parenthesis around both.
;; Bytes 0..1023 are scratch for results, 1024..8191 for the guest's own text, the heap begins at 8192.

(import "wasi:http/types@0.2.3" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.3" "[method]fields.append" (func $fields-append (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.3" "[method]fields.entries" (func $fields-entries (param i32 i32)))
(import "wasi:http/types@0.2.3" "[method]incoming-request.method" (func $request-method (param i32 i32)))
(import "wasi:http/types@0.2.3" "[method]incoming-request.path-with-query" (func $request-path (param i32 i32)))
(import "wasi:http/types@0.2.3" "[method]incoming-request.headers" (func $request-headers (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]incoming-request.consume" (func $request-consume (param i32 i32)))
(import "wasi:http/types@0.2.3" "[method]incoming-body.stream" (func $incoming-stream (param i32 i32)))
(import "wasi:http/types@0.2.3" "[static]incoming-body.finish" (func $incoming-finish (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]future-trailers.subscribe" (func $trailers-subscribe (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]future-trailers.get" (func $trailers-get (param i32 i32)))
(import "wasi:http/types@0.2.3" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]outgoing-response.set-status-code" (func $set-status (param i32 i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]outgoing-response.body" (func $response-body (param i32 i32)))
(import "wasi:http/types@0.2.3" "[method]outgoing-body.write" (func $body-write (param i32 i32)))
(import "wasi:http/types@0.2.3" "[static]outgoing-body.finish" (func $body-finish (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.3" "[static]response-outparam.set"
  (func $outparam-set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.3" "[constructor]outgoing-request" (func $outgoing-request (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]outgoing-request.set-authority"
  (func $set-authority (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]outgoing-request.set-path-with-query"
  (func $set-path (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]future-incoming-response.subscribe"
  (func $incoming-response-subscribe (param i32) (result i32)))
(import "wasi:http/types@0.2.3" "[method]future-incoming-response.get" (func $incoming-response-get (param i32 i32)))
(import "wasi:http/outgoing-handler@0.2.3" "handle" (func $fetch (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.3" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
(import "wasi:io/streams@0.2.3" "[resource-drop]input-stream" (func $drop-input (param i32)))
(import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
  (func $write-4096 (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.3" "[resource-drop]output-stream" (func $drop-output (param i32)))
(import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
(import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $subscribe-duration (param i64) (result i32)))
(import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
(import "wasi:cli/environment@0.2.3" "get-arguments" (func $arguments (param i32)))
(import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
(import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
(import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))

(memory (export "memory") 1)
(global $heap (mut i32) (i32.const 8192))

;; Never frees; a guest that allocates in a loop sets $heap back itself.
(func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (local.set $at
    (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (loop $more
      (br_if $fits (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
      (br $more)))
  (local.get $at))

;; Answers with a status and header fields; the result is the body, still open.
(func $open (param $out i32) (param $status i32) (param $headers i32) (result i32)
  (local $response i32) (local $body i32)
  (local.set $response (call $response (local.get $headers)))
  (drop (call $set-status (local.get $response) (local.get $status)))
  (call $response-body (local.get $response) (i32.const 0))
  (local.set $body (i32.load (i32.const 4)))
  (call $outparam-set (local.get $out) (i32.const 0) (local.get $response)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (local.get $body))

(func $stream-of (param $body i32) (result i32)
  (call $body-write (local.get $body) (i32.const 0))
  (i32.load (i32.const 4)))

;; Writes all of a text; 1 when the other side is gone.
(func $write (param $stream i32) (param $at i32) (param $len i32) (result i32)
  (local $part i32)
  (block $done
    (loop $more
      (br_if $done (i32.eqz (local.get $len)))
      (local.set $part
        (select (local.get $len) (i32.const 4096) (i32.lt_u (local.get $len) (i32.const 4096))))
      (call $write-4096 (local.get $stream) (local.get $at) (local.get $part) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (local.get $part)))
      (local.set $len (i32.sub (local.get $len) (local.get $part)))
      (br $more)))
  (i32.const 0))

(func $finish (param $body i32)
  (call $body-finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 64)))

;; Answers 200 with a text, whole.
(func $say (param $out i32) (param $at i32) (param $len i32)
  (local $body i32) (local $stream i32)
  (local.set $body (call $open (local.get $out) (i32.const 200) (call $fields)))
  (local.set $stream (call $stream-of (local.get $body)))
  (drop (call $write (local.get $stream) (local.get $at) (local.get $len)))
  (call $drop-output (local.get $stream))
  (call $finish (local.get $body)))

(func $wait (param $nanoseconds i64)
  (call $block (call $subscribe-duration (local.get $nanoseconds))))
